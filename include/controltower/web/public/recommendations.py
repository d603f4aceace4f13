"""Recommendations for the shop's site, app and clerks. Guard: the API key of /v1/events, or a customer's own token.

A browser can't keep a key. So the shop's server relays what pages ask to /v1/page/..., and adds the key: there nobody
is named but by a customer token, and only impressions and clicks are taken.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException

from controltower import clock
from controltower.content import reasons
from controltower.content.customer_tokens import verify_customer
from controltower.content.links import BadToken
from controltower.data.contract import LONGEST_ID
from controltower.errors import ControlTowerError
from controltower.ledger import event_bodies
from controltower.ledger.database import begin
from controltower.settings import Settings
from controltower.web.public import bodies
from controltower.web.public.events import check_api_key
from controltower.web.public.in_app import customer_of
from controltower.web.public.live import Live
from controltower.web.public.page import HEADERS, PAGES, RETRY
from controltower.web.public.together import Together

if TYPE_CHECKING:
    from controltower.models.recommend.serving import Answer
    from controltower.models.recommend.session import Request as Asked

TOKEN: Final = "x-customer-token"  # noqa: S105 - a header's name
NAMES: Final = ("placement", "customer", "visitor", "product", "cart", "query", "recent", "site", "k", "locale")
MOST: Final = {"cart": 100, "recent": 50}
LONGEST_QUERY, LONGEST_LIST = 500, 16_384  # characters: of a search, of all parameters
K, MOST_K = 12, 50
MOST_EVENTS, LARGEST_BODY = 100, 65_536  # of one post of a page; bytes

_PLACEMENT: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_NUMBER: Final = re.compile(r"[0-9]{1,3}")
_LOCALE: Final = re.compile(r"([A-Za-z]{2,8}([-_][A-Za-z0-9]{1,8}){0,3})?")
_EVENT: Final = {  # what a page tells of an impression or a click: what each field looks like
    "event_id": re.compile(r"[0-9A-Za-z-]{16,64}"),
    "event_name": re.compile(r"view_item_list|select_item"),
    "visitor_id": re.compile(r"[^\x00-\x1f\x7f]{1,200}"),
    "list_id": _PLACEMENT,
    "recommendation_id": re.compile(r"[0-9a-f]{32}"),
}
_OF: Final = re.compile(r"[^\x00-\x1f\x7f]{1,200}")  # a product_id, or a collection_id
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")


class BadParameter(Exception):
    """A parameter that can't be used, with what to do about it."""

    def __init__(self, name: str, remedy: str) -> None:
        super().__init__(name, remedy)
        self.name, self.remedy = name, remedy


class Plain(APIRoute):
    """A route whose function takes the request and makes the response: FastAPI has nothing to work out of it."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        return cast("Callable[[Request], Coroutine[Any, Any, Response]]", self.endpoint)


def router(settings: Settings) -> APIRouter:
    routes = APIRouter(route_class=Plain)
    live = Live(settings)

    def store_all(some: Sequence[bytes]) -> list[bool]:
        with begin(settings) as ledger:
            return event_bodies.store(ledger, some, clock.now(settings))

    together = Together(store_all)

    async def answered(request: Request, customer: str | None) -> Response:
        try:
            asked = read(request.query_params, customer)
        except BadParameter as e:
            return _json({"error": "bad_parameter", "parameter": e.name, "remedy": e.remedy}, 400)
        try:
            serving = live.serving()
            if serving is None:
                serving = await run_in_threadpool(live.opened)
        except ControlTowerError as e:
            return _json({"error": "not_published", "remedy": e.remedy}, 503, RETRY)
        locale = request.query_params.get("locale") or live.locale
        return _json(live.answer(serving, asked, locale, told))  # takes less than handing it to a thread is worth

    @routes.get("/v1/recommendations")
    async def recommendations(request: Request) -> Response:
        try:
            check_api_key(settings, request)
            customer = None
        except HTTPException as refused:
            if request.headers.get("authorization", "").count(".") != 2:  # a customer token has three parts
                raise
            try:
                customer = await run_in_threadpool(customer_of, settings, request)
            except HTTPException:
                raise refused from None
            if request.query_params.get("customer", customer) != customer:
                raise HTTPException(403, "other_customer") from None
        return await answered(request, customer)

    @routes.get("/v1/page/recommendations")
    async def of_page(request: Request) -> Response:
        check_api_key(settings, request)
        if "customer" in request.query_params:
            raise HTTPException(403, "customer_without_token")
        return await answered(request, customer_of_page(settings, request))

    @routes.post("/v1/page/events")
    async def events_of_page(request: Request) -> Response:
        check_api_key(settings, request)
        customer = customer_of_page(settings, request)
        body = await bodies.read(request, LARGEST_BODY)
        head = {"occurred_at": clock.now(settings).isoformat(), "channel": "web"}
        found = events_in(body, head if customer is None else {**head, "customer_id": customer})
        return _json({"body": await together.store(orjson.dumps(found)), "events": len(found)}, 202)

    @routes.get("/recommend.js")
    async def script(request: Request) -> Response:  # noqa: ARG001 - as all routes here
        headers = HEADERS | {"Cache-Control": "public, max-age=3600"}
        return Response((PAGES / "recommend.js").read_bytes(), media_type="text/javascript", headers=headers)

    return routes


def customer_of_page(settings: Settings, request: Request) -> str | None:
    """Whom the page's token speaks for, None without one; HTTPException 401 for one that isn't valid."""
    token = request.headers.get(TOKEN)
    if not token:
        return None
    try:
        return verify_customer(settings.signing_key(), token.strip(), clock.now(settings))
    except BadToken:
        raise HTTPException(401, "bad_token") from None


def read(told: QueryParams, customer: str | None = None) -> Asked:
    """The parameters as a request; `customer` as a token says. BadParameter for the first that can't be used."""
    from controltower.models.recommend.session import Request as Asked

    given = told.multi_items()
    several = len(given) > len(told)
    if sum(len(value) for _, value in given) > LONGEST_LIST:
        raise BadParameter("recent", f"Send at most {LONGEST_LIST} characters in all.")
    for name in told:
        if name not in NAMES:
            raise BadParameter(name[:40], f"Known are {', '.join(NAMES)}.")
        if several and name not in MOST and len(told.getlist(name)) > 1:
            raise BadParameter(name, "Send it once.")
    placement, k = told.get("placement", ""), told.get("k") or str(K)
    if not _PLACEMENT.fullmatch(placement):
        raise BadParameter("placement", "Send the name of a placement, such as for_you or similar.")
    if not _NUMBER.fullmatch(k) or not 1 <= int(k) <= MOST_K:
        raise BadParameter("k", f"Send a number from 1 to {MOST_K}.")
    if not _LOCALE.fullmatch(told.get("locale", "")):
        raise BadParameter("locale", "Send a language tag, such as ko-KR.")
    query = told.get("query")
    if query is not None and len(query) > LONGEST_QUERY:
        raise BadParameter("query", f"Send at most {LONGEST_QUERY} characters.")
    ids = {
        name: _id(name, told[name])
        for name in ("customer", "visitor", "product", "site")
        if told.get(name, "").strip(" ")
    }
    lists = {name: _ids(name, told.getlist(name)) for name in MOST}
    return Asked(
        placement, int(k), customer if customer is not None else ids.get("customer"), ids.get("visitor"),
        ids.get("product"), lists["cart"], lists["recent"], query, ids.get("site"),
    )  # fmt: skip


def _ids(name: str, values: Sequence[str]) -> list[str]:
    """The ids of a list: parted by commas, or, where one has a comma itself, the parameter repeated."""
    ids = list(values) if len(values) > 1 else values[0].split(",") if values else []
    if len(ids) > MOST[name]:
        raise BadParameter(name, f"Send at most {MOST[name]} product ids.")
    return [_id(name, i.strip()) for i in ids if i.strip()]


def _id(name: str, value: str) -> str:
    value = value.strip(" ")  # as it is loaded
    if len(value) > LONGEST_ID or _CONTROL.search(value):
        raise BadParameter(name, f"Send an id of at most {LONGEST_ID} characters, without control characters.")
    return value


def told(answer: Answer, recommendation_id: str, locale: str) -> dict[str, Any]:
    """An answer as it is sent. `reason.text` is for the customer; empty where there is nothing to say."""
    items = [
        {
            **item.shown, "rank": item.rank, "algorithm": item.algorithm, "rules": item.rules,
            "reason": {"code": item.reason_code, "text": reasons.word(item.reason_code, item.reason_value, locale)},
        }
        for item in answer.items
    ]  # fmt: skip
    made: dict[str, Any] = {
        "recommendation_id": recommendation_id, "placement": answer.placement, "as_of": answer.as_of,
        "model_version": answer.model_version, "version": answer.version,
        "fallback": {"source": answer.fallback, "because": answer.because} if answer.because else None,
        "rules": answer.rules, "items": items,
    }  # fmt: skip
    if answer.keywords or answer.exhibitions:
        made |= {"keywords": answer.keywords, "exhibitions": answer.exhibitions}
    return made


def events_in(body: bytes, head: Mapping[str, str]) -> list[dict[str, Any]]:
    """What a page posted, as events of our own form: impressions and clicks of lists, nothing else of anybody.

    HTTPException 400 "unknown_form" where something in it isn't that.
    """
    try:
        given = orjson.loads(body)["events"]
        if not isinstance(given, list) or not 1 <= len(given) <= MOST_EVENTS:
            raise ValueError
        return [{**_event(one), **head} for one in given]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise HTTPException(400, "unknown_form") from None


def _event(given: Mapping[str, Any]) -> dict[str, Any]:
    made: dict[str, Any] = {name: given[name] for name in _EVENT}
    of = "collection_id" if "collection_id" in given else "product_id"
    made[of] = given[of]
    if any(not form.fullmatch(made[name]) for name, form in {**_EVENT, of: _OF}.items()):
        raise ValueError
    position = made["position"] = given["position"]
    if type(position) is not int or not 1 <= position <= MOST_K:
        raise ValueError
    return made


def _json(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    made = orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY)
    return Response(made, status, HEADERS | dict(headers or {}), "application/json")

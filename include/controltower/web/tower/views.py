"""The pages and the forms, each behind the log-in. They decide nothing: jobs and reports do."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Form, HTTPException, Path, Query, Request, Response
from fastapi.responses import RedirectResponse

from controltower import clock
from controltower.campaigns.specs import BrokenSpec, load_specs
from controltower.delivery.providers.registry import CHANNELS, name_of
from controltower.jobs import anomalies
from controltower.ledger import planning_failures, providers, runs, signing_keys
from controltower.ledger.database import reading
from controltower.settings import load_shop
from controltower.web.tower import frames, seals, words
from controltower.web.tower.desk import Desk, Visit, visit
from controltower.web.tower.page import HEADERS, asset
from controltower.web.tower.refusals import BAD_FORM, Shown
from controltower.web.tower.standing import MOST, count

routes = APIRouter(route_class=Shown, default_response_class=Response)

Name = Annotated[str, Path(pattern="^[a-z0-9_]{1,80}$")]
RunId = Annotated[int, Path(ge=1, lt=2**63)]
Here = Annotated[Visit, Depends(visit)]
Told = Annotated[str, Query(max_length=1000)]


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


Home = Annotated[Desk, Depends(_desk)]


@routes.get("/")
def show_today(here: Here, desk: Home, told: Told = "") -> Response:
    shop = load_shop(desk.settings)
    specs = load_specs(desk.settings.campaigns)
    now = clock.now(desk.settings)
    with reading(desk.settings) as ledger:
        last = runs.last_of_each(ledger)
        seen = desk.guard.may_read(here.user, {s.name for s in specs} | set(last))
        today = now.astimezone(shop.zone).date()
        counted = count(ledger, runs.of_day(ledger, today, seen, MOST))
        failed = planning_failures.unplanned(ledger, today.isoformat(), seen)
        odd = anomalies.standing(ledger, shop, now)
        used = {name_of(desk.settings, channel) for channel in CHANNELS}
        no_key = signing_keys.missing(ledger, desk.settings)
        paused = [p for name, p in providers.standings(ledger).items() if p.waits and name in used]
    campaigns = [
        {
            "name": s.name,
            "title": s.name if isinstance(s, BrokenSpec) else s.title,
            "error": s.error if isinstance(s, BrokenSpec) else None,
            "schedule": "" if isinstance(s, BrokenSpec) else words.schedule(s.schedule, shop, here.page.t),
            "last": last.get(s.name),
        }
        for s in specs
        if s.name in seen
    ]
    titles = {c["name"]: c["title"] for c in campaigns}
    return here.page.show(
        "today.html",
        shop,
        now=now,
        counted=counted,
        campaigns=campaigns,
        failed=[
            f._asdict() | {"title": titles.get(f.campaign, f.campaign), "why": words.trouble(f.why, here.page.t)}
            for f in failed
        ],
        no_key=no_key and desk.settings.key_place,
        odd=[anomalies.tell(shop, o, here.page.language) for o in odd],
        paused=[words.pause(p, desk.settings, shop, here.page.t) for p in paused],
        next_due=min((c.next_due for c in counted if c.next_due), default=None),
        tokens=desk.tokens(here, counted),
        told=desk.told(here, told),
    )


@routes.get("/campaigns/{name}")
def show_campaign(here: Here, desk: Home, name: Name) -> Response:
    desk.allow(here, name)
    shop = load_shop(desk.settings)
    spec = next((s for s in load_specs(desk.settings.campaigns) if s.name == name), None)
    with reading(desk.settings) as ledger:
        counted = count(ledger, runs.of_campaign(ledger, name, MOST))
    if spec is None and not counted:
        raise HTTPException(404)
    usable = None if isinstance(spec, BrokenSpec) else spec
    return here.page.show(
        "campaign.html",
        shop,
        now=clock.now(desk.settings),
        name=name,
        spec=usable,
        error=spec.error if isinstance(spec, BrokenSpec) else None,
        facts=words.spec(usable, shop, here.page.t) if usable else [],
        variants=words.variants(usable, shop, here.page.language) if usable else [],
        counted=counted,
        tokens=desk.tokens(here, counted),
    )


@routes.get("/campaigns/{name}/preview")
def show_preview(here: Here, desk: Home, name: Name, customer: Annotated[str, Query(max_length=200)] = "") -> Response:
    from controltower.jobs.campaigns import preview_campaign

    desk.allow(here, name)
    spec = next((s for s in load_specs(desk.settings.campaigns) if s.name == name), None)
    if spec is None:
        raise HTTPException(404)
    shop = load_shop(desk.settings)
    asked = customer.strip()
    if asked and not asked.isprintable():
        raise HTTPException(400)
    with desk.one_at_a_time():
        report = preview_campaign(name, customers=3, customer_ids=[asked] if asked else None)
    return here.page.show(
        "preview.html",
        shop,
        messages=True,
        now=clock.now(desk.settings),
        name=name,
        title=name if isinstance(spec, BrokenSpec) else spec.title,
        asked=asked,
        report=report,
        samples=frames.shown(report["samples"]),
    )


@routes.get("/runs/{run_id}")
def show_run(here: Here, desk: Home, run_id: RunId, told: Told = "") -> Response:
    from controltower.measurement import report

    counted = desk.run(here, run_id)
    shop = load_shop(desk.settings)
    found, trouble = desk.report(here, counted.run)
    return here.page.show(
        "run.html",
        shop,
        now=clock.now(desk.settings),
        counted=counted,
        run=counted.run,
        # Its reasons are shown in our own words, and the decisions beside the buttons.
        readout=report.fragment(found | {"not_sent": []}, here.page.language) if found else None,
        trouble=trouble,
        reasons=found["not_sent"] if found else [],
        decisions=found["decisions"] if found else [],
        tokens=desk.tokens(here, [counted]),
        told=desk.told(here, told),
    )


@routes.get("/runs/{run_id}/samples")
def show_samples(here: Here, desk: Home, run_id: RunId) -> Response:
    from controltower.jobs.samples import sample_run

    run = desk.run(here, run_id).run
    with desk.one_at_a_time():
        report = sample_run(run_id, customers=3)
    return here.page.show(
        "samples.html",
        load_shop(desk.settings),
        messages=True,
        now=clock.now(desk.settings),
        run=run,
        report=report,
        samples=frames.shown(report["samples"]),
    )


@routes.post("/runs/{run_id}/{action}")
def change_run(
    here: Here,
    desk: Home,
    run_id: RunId,
    action: Literal["pause", "resume", "cancel"],
    token: Annotated[str, Form(max_length=1000)] = "",
    back: Annotated[str, Form(max_length=20)] = "",
) -> Response:
    """Pause, resume or cancel, then show what it did."""
    from controltower.jobs.control import change_run as change

    run = desk.run(here, run_id).run
    if run.campaign not in desk.guard.may_run(here.user, [run.campaign]):
        raise HTTPException(403)
    key = desk.settings.signing_key()
    if not seals.from_our_page(here.request) or (
        seals.opened(key, here.user.id, f"run:{run_id}", token, seals.FORM_AGE) is None
    ):
        raise HTTPException(403, BAD_FORM)
    report = change(action, run_id, here.user.name)
    waits = report["outcome"] == "resumed" and report["hold"]  # no longer paused, but nobody has approved it
    outcome = "resumed_but_waits" if waits else report["outcome"]
    notice = {"run": f"{run.campaign} {run.occurrence}", "outcome": outcome, "counts": _counts(report)}
    told = urlencode({"told": seals.seal(key, here.user.id, "told", json.dumps(notice))})
    page = "/" if back == "today" else f"/runs/{report['run_id']}"
    return RedirectResponse(f"{here.page.root}{page}?{told}", 303)


@routes.get("/style.css")
def style(_: Here) -> Response:
    return Response(asset("style.css"), media_type="text/css", headers=HEADERS)


@routes.get("/report.css")
def report_style(_: Here) -> Response:
    """Of the part of a run's page that measurement draws."""
    from controltower.measurement import report

    return Response(report.css(), media_type="text/css", headers=HEADERS)


@routes.get("/icon.svg")
def icon(_: Here) -> Response:
    return Response(asset("icon.svg"), media_type="image/svg+xml", headers=HEADERS)


@routes.get("/icon-dark.svg")
def icon_dark(_: Here) -> Response:
    return Response(asset("icon-dark.svg"), media_type="image/svg+xml", headers=HEADERS)


def _counts(report: dict[str, Any]) -> dict[str, int]:
    """What a notice tells of a run."""
    return {name: report[name] for name in ("left", "under_way", "wait", "cancelled")}

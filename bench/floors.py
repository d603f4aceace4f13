"""What a mail can't cost less than: Jinja, JSON, the socket and COPY alone, for the mails of bench/campaign.py.

docs/performance.md holds what each way costs against their sum.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import psycopg
import sqlalchemy as sa
from controltower import settings
from controltower.campaigns.composing import Composer, catalogue
from controltower.campaigns.specs import find_spec
from controltower.content.message import SplitEmail
from controltower.content.templates import Template
from controltower.content.values import template_values
from controltower.data.lake import Lake
from controltower.delivery.providers.base import Envelope, Outgoing
from controltower.delivery.providers.client import Client
from controltower.delivery.providers.sendgrid import payload
from controltower.profiles.contacts import contacts
from controltower.settings import Settings

from bench import _campaign
from bench._acceptor import Acceptor, accepting

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support import postgres

MAILS, TOGETHER, VARIANT = 2000, 1000, "we_miss_you"
ROWS = 100_000


def run() -> Iterator[dict[str, Any]]:
    """Each the least of three rounds: a floor is what it costs when nothing else is in the way."""
    with tempfile.TemporaryDirectory() as folder, accepting(Path(folder)) as acceptor:
        home = Path(folder)
        _campaign.write_shop(home, MAILS)
        _campaign.write_customers(home, None, MAILS)  # which makes the home's key
        split, whole, render = _mails(Settings(home=home, sendgrid_url=acceptor.url))
        yield _row("Jinja alone: HTML and text of a mail, rendered", _least(render, MAILS), "µs")
        for about, requests in ((f"{TOGETHER:,} in a request", split), ("one a request", whole)):
            yield _row(
                f"orjson alone: a mail, {about}", _least(lambda r=requests: [*map(orjson.dumps, r)], MAILS), "µs"
            )
            bodies = [orjson.dumps(r) for r in requests]
            yield _row(f"socket and TLS alone: a mail, {about}", _least(_posting(acceptor, bodies), MAILS), "µs")
            yield _row("  its bytes", sum(map(len, bodies)) / MAILS, "B")
    with tempfile.TemporaryDirectory() as folder, postgres.running() as server, server.database(name="seed") as seed:
        yield from _copying(Path(folder), server.pid, seed)


def _mails(conf: Settings) -> tuple[list[Any], list[Any], Callable[[], None]]:
    """The payloads of the same mails, many in one and one in each, and what renders them."""
    shop, products = settings.load_shop(conf), [f"p{n}" for n in range(_campaign.PRODUCTS)]
    composer = Composer.of(conf, shop, find_spec(conf.campaigns, _campaign.CAMPAIGN))
    with Lake(conf).read(_campaign.PLANNED) as lake:
        who, items = contacts(lake, shop, _campaign.customers(MAILS)), catalogue(lake, products)
    shown = [[products[(7 * m + n) % _campaign.PRODUCTS] for n in range(_campaign.SHOWN)] for m in range(MAILS)]
    picks = [[{"product_id": p, "reason": "popular", "value": None} for p in some] for some in shown]
    contexts = composer.contexts(list(who.values()), picks, items, [f"{number:032x}" for number in range(MAILS)])
    split, whole = [], []
    for number, (contact, email) in enumerate(zip(who.values(), composer.split(contexts, VARIANT), strict=True)):
        assert isinstance(email, SplitEmail)
        addressed = number, contexts[number].message_id, str(contact.email)
        split.append(Outgoing(*addressed, email))
        whole.append(Outgoing(*addressed, email.whole()))
    envelope = Envelope(shop, _campaign.CAMPAIGN, VARIANT, timedelta(days=1))
    together = [payload(split[n : n + TOGETHER], envelope) for n in range(0, MAILS, TOGETHER)]
    return together, [payload([one], envelope) for one in whole], _rendering(composer.template, contexts)


def _rendering(template: Template, contexts: Sequence[Any]) -> Callable[[], None]:
    html, text = template._html, template._text
    assert html is not None and text is not None
    values = [template_values(c, *template.language(c), None) | {"subject": "s", "preheader": "p"} for c in contexts]

    def render() -> None:
        for v in values:
            html.render(v)
            text.render(v)

    return render


def _encode(requests: Sequence[Any]) -> None:
    for request in requests:
        orjson.dumps(request)


def _posting(acceptor: Acceptor, bodies: Sequence[bytes]) -> Callable[[], None]:
    client = Client(f"{acceptor.url}/v3/mail/send")

    def post() -> None:
        for body in bodies:
            client.post(body, {})

    return post


def _copying(home: Path, server: int, database: str) -> Iterator[dict[str, Any]]:
    """The rows of a plan, made beforehand, into tables of the same form and indexes that hold nothing yet."""
    _campaign.write_shop(home, ROWS)
    _campaign.write_customers(home, database, ROWS)
    _campaign.set_time(home, _campaign.PLANNED)
    environment = {"CONTROLTOWER_DATABASE_URL": database}
    _campaign.run(home, environment, server, ["campaign", "plan", _campaign.CAMPAIGN])
    with psycopg.connect(sa.make_url(database).set(drivername="postgresql").render_as_string(False)) as connection:
        client = asked = 0.0
        for table in ("decisions", "messages"):
            with connection.cursor() as cursor:
                with cursor.copy(f"COPY {table} TO STDOUT") as copy:
                    data = b"".join(bytes(block) for block in copy)
                cursor.execute(f"CREATE TABLE floor (LIKE {table} INCLUDING ALL)")
                connection.commit()
                began, before = time.process_time(), _campaign.server_cpu(server)
                with cursor.copy("COPY floor FROM STDIN") as copy:
                    copy.write(data)
                connection.commit()
                client += time.process_time() - began
                asked += _campaign.server_cpu(server) - before
                messages = cursor.execute("SELECT count(*) FROM messages").fetchone()
                cursor.execute("DROP TABLE floor")
        assert messages is not None
    yield _row("COPY alone: a message and its decision, client", client / messages[0] * 1e6, "µs")
    yield _row("COPY alone: a message and its decision, PostgreSQL", asked / messages[0] * 1e6, "µs")


def _least(work: Callable[[], Any], mails: int) -> float:
    """CPU of this process per mail, in microseconds."""
    took = []
    for _ in range(3):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took) / mails * 1e6


def _row(name: str, value: float, unit: str) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit}

"""Looking a home over: what works and what doesn't, with the remedy."""

from __future__ import annotations

import os
from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

from controltower import clock, settings
from controltower.campaigns import approval
from controltower.campaigns.specs import BrokenSpec, Spec, load_specs
from controltower.errors import ControlTowerError


def examine() -> list[dict[str, Any]]:
    """One finding a part: name, ok, text. Where the settings can't be read, that is the only one."""
    checks: list[tuple[str, Callable[[], str]]] = [
        ("settings", _settings),
        ("clock", _clock),
        ("shop file", _shop),
        ("ledger", _ledger),
        ("lake", _lake),
        ("data", _data),
        ("campaigns", _campaigns),
        ("approval", _approval),
        ("email", lambda: _provider("email")),
        ("push", lambda: _provider("push")),
        ("in-app", lambda: _provider("in_app")),
        ("providers", _providers),
        ("feedback", _feedback),
    ]
    first = _try(*checks[0])
    return [first, *(_try(name, check) for name, check in checks[1:])] if first["ok"] else [first]


def _try(name: str, check: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"name": name, "ok": True, "text": check()}
    except ControlTowerError as e:
        return {"name": name, "ok": False, "text": str(e)}


def _settings() -> str:
    said = [f"home {settings.load().home}"]
    known = [name.upper() for name in settings.Settings.model_fields]
    given = {name.removeprefix(settings.PREFIX) for name in os.environ if name.startswith(settings.PREFIX)}
    for name in sorted(given.difference(known)):
        meant = get_close_matches(name, known, 1)
        more = f", is {settings.PREFIX}{meant[0]} meant?" if meant else ""
        said.append(f"{settings.PREFIX}{name} is no setting{more}")
    return "; ".join(said)


def _clock() -> str:
    return clock.now(settings.load()).isoformat(timespec="seconds")


def _shop() -> str:
    shop = settings.load_shop(settings.load())
    return f"{shop.name}, {shop.timezone}, {shop.currency}"


def _ledger() -> str:
    from controltower.ledger.database import check_key, forgetful, opened

    conf = settings.load()
    check_key(conf)
    name = opened(conf).dialect.name
    if setting := forgetful(conf):
        raise ControlTowerError(
            f"{name} has {setting} off: after a crash it forgets what was sent, and it would be sent again.",
            f"Set {setting} = on in postgresql.conf, or for the ledger's database.",
        )
    return f"{name}, up to date"


def _lake() -> str:
    from controltower.data.contract import CORE
    from controltower.data.lake import Lake

    conf = settings.load()
    lake = Lake(conf)
    return ", ".join(f"{name} {len(lake.intervals(name))}" for name in CORE) + " intervals"


def _data() -> str:
    from controltower.jobs.anomalies import list_anomalies

    odd = list_anomalies()["anomalies"]
    if odd:
        raise ControlTowerError(
            f"Campaigns aren't planned: {'; '.join(o['what'] for o in odd)}.",
            "Mend the source and load the interval again, or say that it is right: `controltower data accept TABLE"
            " --why ...`."
            if any(o["interval"] for o in odd)
            else "Load newer data, or raise data_stale_hours in shop.yaml.",
        )
    return "nothing odd about what was loaded"


def _campaigns() -> str:
    from controltower.campaigns.composing import Composer

    conf = settings.load()
    shop = settings.load_shop(conf)
    specs = load_specs(conf.campaigns)
    broken = [s.error for s in specs if isinstance(s, BrokenSpec)]
    if broken:
        raise ControlTowerError("; ".join(broken))
    warnings: list[str] = []
    for spec in specs:
        assert isinstance(spec, Spec)
        warnings += [f"{spec.name}: {w}" for w in Composer.of(conf, shop, spec).check()]
    return "; ".join([f"{len(specs)} specs, their templates render", *warnings])


def _approval() -> str:
    conf = settings.load()
    shop = settings.load_shop(conf)
    limits = [approval.threshold(shop, s) for s in load_specs(conf.campaigns) if isinstance(s, Spec)]
    if all(limit is None for limit in limits):
        return "no run waits for a second person"
    if not conf.approver_names:
        return (
            "large runs wait for a second person, but nobody is named: anybody but who asked may approve them; "
            "name some in CONTROLTOWER_APPROVERS"
        )
    return f"large runs wait for {' or '.join(conf.approver_names)}"


def _provider(channel: str) -> str:
    from controltower.delivery.policy import unfit_to_send
    from controltower.delivery.providers.registry import provider_of

    conf = settings.load()
    provider = provider_of(conf, channel)
    provider.close()
    if unfit := unfit_to_send(conf, settings.load_shop(conf), provider):
        raise ControlTowerError(unfit)
    return f"{provider.name} has all that it needs"


def _providers() -> str:
    from controltower.delivery.providers.registry import check_rules
    from controltower.jobs.providers import list_providers

    check_rules(settings.load_shop(settings.load()))
    paused = [p for p in list_providers()["providers"] if p["state"].startswith("paused")]
    if paused:
        what = "; ".join(f"{p['name']} is {p['state']}: {p['why']}" for p in paused)
        raise ControlTowerError(f"{what}.", "Mend the cause, then `controltower provider resume NAME`.")
    return "none is paused"


def _feedback() -> str:
    from controltower.delivery.policy import is_local
    from controltower.feedback.intake import usable_keys

    conf = settings.load()
    keys = len(usable_keys(conf))
    if keys < len(conf.webhook_keys):
        raise ControlTowerError(
            f"Of CONTROLTOWER_SENDGRID_WEBHOOK_KEYS, {len(conf.webhook_keys) - keys} can't be used.",
            "Copy the verification key again: base64 on one line, as SendGrid's Event Webhook settings show it.",
        )
    if conf.email_provider == "sendgrid" and conf.sendgrid_api_key and not is_local(conf.sendgrid_url) and not keys:
        raise ControlTowerError(
            "SendGrid's events are refused: bounces, complaints and unsubscribes are not heard of.",
            "Switch on the Signed Event Webhook, and set CONTROLTOWER_SENDGRID_WEBHOOK_KEYS to its verification key.",
        )
    return f"verification keys for SendGrid's events: {keys}"

"""What the shop was told of its customers: their rows, consents, devices, and the truth beside them."""

from __future__ import annotations

import hashlib
import unicodedata
from datetime import timedelta

import numpy as np
import pandas as pd

from controltower.simulation import names
from controltower.simulation.parameters import Origin
from controltower.simulation.world import SECOND, State, World

DAY = 86400 * SECOND
CHANNELS = np.array(["app", "web", "store"], dtype=object)
STORES = 5
CONSENT_TEXTS = ("2022-09", "2025-03")  # the wording shown before and since March 2025
NEW_TEXT_SINCE = 1_740_754_800 * SECOND  # 2025-03-01 in Seoul


def customer_ids(who: np.ndarray) -> np.ndarray:
    """`C000001` for person 1; None for person 0, who is nobody known."""
    return np.array([f"C{i:06d}" if i else None for i in who.tolist()], dtype=object)


def customers(world: World, state: State, renewals: pd.DataFrame) -> pd.DataFrame:
    """Every version of every customer: one when they sign up, one for each of `renewals` (who, at, points, tier)."""
    people, p = world.people, world.parameters
    who = np.arange(1, people.size)
    first, last, mail = _names(world)
    told = people.draw("told") < p.people.demographics_known
    born = [
        world.opened - timedelta(days=round(a * 365.25)) if t else None for a, t in zip(people.age, told, strict=True)
    ]
    known = people.draw("email") < p.people.email_known
    origins = [p.origins[o] for o in people.origin]
    phoned = people.draw("phone") < p.people.phone_known
    store = people.channels[:, 2] > 0
    rows = pd.DataFrame({
        "who": np.arange(people.size), "customer_id": customer_ids(np.arange(people.size)),
        "email": _where(known, mail),
        "phone": [_phone(o, i) if ok else None for i, (o, ok) in enumerate(zip(origins, phoned, strict=True))],
        "country": [o.country for o in origins], "locale": [o.locale for o in origins],
        "timezone": [o.timezone for o in origins],
        "gender": _where(told, ["female" if f else "male" for f in people.female]), "birth_date": born,
        "signed_up_at": state.signed_up_at, "first_name": first, "last_name": last,
        "home_store": [f"S{1 + i % STORES:02d}" if s else None for i, s in enumerate(store)],
    }).iloc[who]  # fmt: skip
    start = pd.DataFrame({"who": who, "updated_at": state.signed_up_at[who], "points": 0.0, "loyalty_tier": "basic"})
    return pd.concat([start, renewals], ignore_index=True).merge(rows, on="who").sort_values(["updated_at", "who"])


def _where(known: np.ndarray, values: list[str]) -> list[str | None]:
    return [v if k else None for k, v in zip(known, values, strict=True)]


def _names(world: World) -> tuple[list[str], list[str], list[str]]:
    people, p = world.people, world.parameters
    first, last, mail = [], [], []
    u, v, d = people.draw("first"), people.draw("last"), people.draw("domain")
    for i in range(people.size):
        locale, female = p.origins[people.origin[i]].locale, bool(people.female[i])
        given, families = _words(locale, female)
        # squared: some surnames are far more common than others
        (name, roman), (family, roman_family) = given[int(u[i] * len(given))], families[int(v[i] ** 2 * len(families))]
        first.append(name)
        last.append(family)
        mail.append(f"{roman}.{roman_family}{i:04d}@{('naru', 'post', 'mail', 'haneul')[int(d[i] * 4)]}.example")
    before = int(np.count_nonzero(people.signs_up[1:] < 0))
    odd = np.random.default_rng([world.seed, 6]).choice(before, size=min(p.edge_customers, before), replace=False) + 1
    for i, (name, family) in zip(odd.tolist(), names.EDGE_NAMES, strict=False):
        first[i], last[i] = name, family
    return first, last, mail


def _words(locale: str, female: bool) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Given names and surnames with their Latin letters."""
    if locale.startswith("ko"):
        return (names.WOMEN if female else names.MEN), names.SURNAMES
    if locale.startswith("zh"):
        return (names.CHINESE_WOMEN if female else names.CHINESE_MEN), names.CHINESE_SURNAMES
    given = names.ENGLISH_WOMEN if female else names.ENGLISH_MEN
    return [(n, _latin(n)) for n in given], [(n, _latin(n)) for n in names.ENGLISH_SURNAMES]


def _latin(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return "".join(c for c in plain if c.isalnum())


def _phone(origin: Origin, i: int) -> str | None:
    """Numbers that nobody has: in Korea 010-0..., in the US and UK the ranges kept for fiction."""
    if origin.country == "KR":
        return f"+82100{i % 10_000_000:07d}"
    return {"US": f"+120255501{i % 100:02d}", "GB": f"+447700900{i % 1000:03d}"}.get(origin.country)


def installed_at(world: World, state: State) -> np.ndarray:
    """When app users (N,) installed the app, in microseconds: newcomers at once, others before the opening."""
    opening = world.midnight(0)[world.people.origin]
    before = state.signed_up_at + (world.people.draw("installed") * (opening - state.signed_up_at)).astype(np.int64)
    return np.where(world.people.signs_up < 0, before, state.signed_up_at + 120 * SECOND)


def consents(world: World, state: State, until: int) -> pd.DataFrame:
    """Every consent, refusal and withdrawal recorded until then (microseconds)."""
    p, people = world.parameters.consents, world.people
    signed, app = state.signed_up_at, people.app & (state.signed_up_at <= until)
    installed = np.where(app, installed_at(world, state), until + 1)
    push = people.draw("consent_push") < p.push
    night = push & (people.draw("consent_night") < p.night / max(p.push, 1e-9))
    profiling = people.draw("profiling") < p.profiling
    rows = [
        _history(world, "email", "marketing", people.draw("consent_email") < p.email, signed, "withdrawn", until),
        _history(world, "push", "marketing", push, installed, "push_withdrawn", until),
        _history(world, "push", "night_marketing", night, installed, "night_withdrawn", until),
        _history(world, "email", "profiling", profiling, signed, "withdrawn_when", until),
        _history(world, "push", "profiling", profiling, installed, "withdrawn_when", until),
    ]
    found = pd.concat(rows, ignore_index=True).sort_values(["recorded_at", "who", "channel", "purpose"])
    text = np.where(found["recorded_at"] < NEW_TEXT_SINCE, *CONSENT_TEXTS)
    return found.assign(customer_id=customer_ids(found["who"].to_numpy()), legal_basis="consent", text_version=text)


def _history(world: World, channel: str, purpose: str, yes: np.ndarray, at: np.ndarray, draw: str,
             until: int) -> pd.DataFrame:  # fmt: skip
    """The answer, for some its withdrawal, for some of them the consent given again. A draw of its own moves each."""
    p, people = world.parameters.consents, world.people
    asked = (np.arange(people.size) > 0) & (at <= until)
    answered = np.flatnonzero(asked & (yes | (people.draw("refused") < p.refusal_recorded)))
    days = -np.log1p(-people.draw(draw)) / max(p.withdrawn_per_year, 1e-9) * 365
    withdrawn = np.where(asked & yes, at, 0) + (np.minimum(days, 36500) * DAY).astype(np.int64)
    leaves = np.flatnonzero(asked & yes & (withdrawn <= until))
    again = withdrawn + (5 + 40 * people.draw("renewal")) * DAY
    returns = np.flatnonzero(asked & yes & (again <= until) & (people.draw("again") < p.given_again))
    source = "sign_up" if channel == "email" else "app"

    def rows(who: np.ndarray, when: np.ndarray, granted: np.ndarray | bool, how: str) -> pd.DataFrame:
        recorded = when[who].astype(np.int64)
        return pd.DataFrame({"who": who, "channel": channel, "purpose": purpose, "recorded_at": recorded,
                             "granted": granted, "source": how})  # fmt: skip

    return pd.concat([rows(answered, at, yes[answered], source), rows(leaves, withdrawn, False, "preference_page"),
                      rows(returns, again, True, "preference_page")], ignore_index=True)  # fmt: skip


def devices(world: World, state: State, seen: pd.DataFrame, until: int) -> pd.DataFrame:
    """Every version of every device: at its installation, when its token is renewed, and each month it was used.

    `seen`: who, at, last_seen_at of the monthly look (first devices only).
    """
    p, people = world.parameters.people, world.people
    user = np.flatnonzero(people.app & (np.arange(people.size) > 0) & (state.signed_up_at <= until))
    at = installed_at(world, state)
    frames = []
    for k in (1, 2, 3):
        if k > 1:
            share = p.second_device if k == 2 else p.third_device / max(p.second_device, 1e-9)
            user = user[people.draw(f"device_{k}")[user] < share]
            at = at + (-np.log1p(-people.draw(f"install_{k}")) * 90 * DAY).astype(np.int64)
        has_token = people.draw(f"token_{k}")[user] < p.token_share
        renewed = at[user] + (-np.log1p(-people.draw("renewal")[user]) * p.token_renewal_days * DAY).astype(np.int64)
        for generation, moments in ((1, at[user]), (2, renewed)):
            tokens = [
                _token(world.seed, i, k, generation) if t else None
                for i, t in zip(user.tolist(), has_token, strict=True)
            ]
            frames.append(pd.DataFrame({"who": user, "k": k, "updated_at": moments, "last_seen_at": moments,
                                        "push_token": tokens}))  # fmt: skip
    found = pd.concat(frames, ignore_index=True)
    monthly = seen.rename(columns={"at": "updated_at"}).assign(k=1)
    found = pd.concat([found, monthly[monthly["who"].isin(found["who"])]], ignore_index=True)
    found = found[found["updated_at"] <= until].sort_values(["who", "k", "updated_at"], kind="stable")
    # a monthly version carries the token that was there before it
    found["push_token"] = found.groupby(["who", "k"])["push_token"].ffill()
    phone = np.where(people.draw("platform")[found["who"]] < 0.68, "android", "ios")  # assumption: 68 % Android
    number = found["who"].to_numpy() * 10 + found["k"].to_numpy()
    return found.assign(customer_id=customer_ids(found["who"].to_numpy()), platform=phone, app_version="3.2.0",
                        device_id=[f"D{i:07d}" for i in number]).sort_values(["updated_at", "device_id"])  # fmt: skip


def _token(seed: int, who: int, k: int, generation: int) -> str:
    """Opaque like a real one, and as long."""
    digest = hashlib.shake_256(f"{seed}/{who}/{k}/{generation}".encode()).hexdigest(66)
    return f"sim{digest[:19]}:APA91b{digest[19:]}"


def truth(world: World, state: State, until: int) -> pd.DataFrame:
    """What nobody can know: one row a customer. `taste` follows the order of the parameters' categories."""
    p, people = world.parameters, world.people
    i = np.flatnonzero((np.arange(people.size) > 0) & (state.signed_up_at <= until))
    paths = np.array([c.path for c in p.categories.values()], dtype=object)
    top = np.argsort(-people.taste[i], axis=1, kind="stable")[:, :3]
    fades = world.midnight(0)[people.origin[i]] + people.fades[i] * DAY
    return pd.DataFrame({
        "customer_id": customer_ids(i), "persona": [p.personas[k].name for k in people.persona[i]],
        "gender": np.where(people.female[i], "female", "male"),
        "birth_date": [world.opened - timedelta(days=round(a * 365.25)) for a in people.age[i]],
        "baby_interest": people.baby[i], "taste": list(people.taste[i]),
        "top_categories": [list(x) for x in paths[top]],
        "style": list(people.style[i]), "visits_per_day": people.casual[i], "episodes_per_day": people.episodes[i],
        "hour": people.hour[i], "hour_concentration": people.hour_k[i], "price_sense": people.price_sense[i],
        "weekend": people.weekend[i], "channel": CHANNELS[people.channels[i].argmax(axis=1)],
        "channels": list(people.channels[i]), "cycle": people.cycle[i], "fades_at": fades,
        "replenishes": [list(paths[row]) for row in np.isfinite(state.due[i])],
    })  # fmt: skip

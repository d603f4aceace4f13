"""Whatever is sent, the rules answer; and whatever they accept can be stored and shown."""

from __future__ import annotations

import copy
import json
from typing import Any

from controltower.sandbox import mail_rules, push_rules, rendering
from controltower.sandbox.push_rules import Refusal
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sandbox import NOW

MAIL = {
    "personalizations": [
        {
            "to": [{"email": "a@example.com", "name": "A"}],
            "cc": [{"email": "b@example.com"}],
            "bcc": [{"email": "c@example.com"}],
            "from": {"email": "d@example.com"},
            "subject": "Hi",
            "headers": {"X-A": "b"},
            "substitutions": {"-a-": "b"},
            "custom_args": {"message_id": "m"},
            "send_at": 1,
        }
    ],
    "from": {"email": "shop@example.com"},
    "reply_to_list": [{"email": "e@example.com"}],
    "subject": "Hello",
    "content": [{"type": "text/plain", "value": "Hi -a-"}, {"type": "text/html", "value": "<p>-s-</p>"}],
    "sections": {"-s-": "-a-"},
    "headers": {"X-B": "c"},
    "categories": ["a"],
    "custom_args": {"c": "d"},
    "attachments": [{"content": "dGVzdA==", "filename": "a", "type": "text/plain", "disposition": "inline"}],
    "asm": {"group_id": 1, "groups_to_display": [1]},
    "batch_id": "x",
    "send_at": 1,
    "mail_settings": {"sandbox_mode": {"enable": False}},
    "tracking_settings": {"click_tracking": {"enable": True}},
}
PUSH = {
    "validate_only": False,
    "message": {
        "token": "t",
        "data": {"a": "b"},
        "notification": {"title": "a", "body": "b", "image": "c"},
        "android": {
            "ttl": "3s",
            "priority": "high",
            "collapseKey": "a",
            "data": {"c": "d"},
            "notification": {"channelId": "a", "title": "b", "body_loc_args": ["a"]},
            "fcm_options": {"analytics_label": "a"},
        },
        "apns": {"payload": {"aps": {"badge": 1}}, "headers": {"a": "b"}},
        "webpush": {"data": {"a": "b"}, "notification": {"title": "a"}, "fcm_options": {"link": "https://a.example"}},
        "fcm_options": {"analytics_label": "a"},
    },
}
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
values = st.recursive(
    scalars, lambda v: st.lists(v, max_size=2) | st.dictionaries(st.text(max_size=5), v, max_size=2), max_leaves=4
)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, inner in steps:
        found += _paths(inner, (*path, step))
    return found


def _put(body: Any, path: tuple[Any, ...], value: Any, drop: bool) -> Any:
    changed = copy.deepcopy(body)
    at = changed
    for step in path[:-1]:
        at = at[step]
    if drop:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return changed


@given(path=st.sampled_from(_paths(MAIL)), value=values, drop=st.booleans())
@settings(max_examples=300, deadline=None)
def test_mail(path: tuple[Any, ...], value: Any, drop: bool) -> None:
    body = json.loads(json.dumps(_put(MAIL, path, value, drop)))
    problems = mail_rules.check(body, now=NOW, known_batch=lambda _: True)
    json.dumps([p._asdict() for p in problems])
    if not problems:
        mail_rules.wants_sandbox_mode(body)
        for entry in rendering.entries(body):
            rendering.mail_as_received(body, entry.position)
            rendering.one_of(body, entry.position)


@given(path=st.sampled_from(_paths(PUSH)), value=values, drop=st.booleans())
@settings(max_examples=300, deadline=None)
def test_push(path: tuple[Any, ...], value: Any, drop: bool) -> None:
    body = json.loads(json.dumps(_put(PUSH, path, value, drop)))
    answer = push_rules.check(body)
    if isinstance(answer, Refusal):
        json.dumps(answer.body())
    else:
        assert rendering.push_entry(body) == rendering.push_entry(answer)


def test_the_whole_examples_are_accepted() -> None:
    assert mail_rules.check(MAIL, now=NOW, known_batch=lambda _: True) == []
    assert not isinstance(push_rules.check(PUSH), Refusal)

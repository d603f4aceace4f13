"""Who may post, and when: signatures, keys, ages. What is refused leaves no trace."""

from __future__ import annotations

import base64

import pytest
from controltower import clock, settings
from controltower.feedback.intake import Refused
from controltower.ledger import tables
from controltower.settings import Settings
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from support import webhooks

from .conftest import NOW, PostBox

BODY = b'[{"event":"delivered"}]'
HOUR = 3600


def refused(conf: Settings, headers: dict[str, str], body: bytes = BODY) -> str:
    with pytest.raises(Refused) as told:
        webhooks.receive(conf, "sendgrid", headers, body)
    return told.value.reason


def at(seconds_ago: int) -> int:
    return int(clock.wall()) - seconds_ago


def test_a_signed_body_is_stored_as_it_came_and_once(box: PostBox) -> None:
    body = b' [{"event": "delivered"} ]\r\n'
    assert box.post_body(body) == "stored"
    assert box.post_body(body) == "seen before"  # signed anew, as a retry may be
    (row,) = box.rows(tables.webhook_bodies)
    assert (row["body"], row["provider"], row["received_at"], row["outcome"]) == (body, "sendgrid", NOW, None)


def test_header_names_come_in_any_case(box: PostBox) -> None:
    headers = {k.upper(): v for k, v in webhooks.sign(box.private_key, at(0), BODY).items()}
    assert webhooks.receive(box.settings, "sendgrid", headers, BODY) == "stored"


def test_a_forged_body_is_refused(box: PostBox) -> None:
    signed = webhooks.sign(box.private_key, at(0), BODY)
    stranger, _ = webhooks.keypair()
    assert refused(box.settings, webhooks.sign(stranger, at(0), BODY)) == "bad_signature"
    assert refused(box.settings, signed, BODY + b" ") == "bad_signature"
    assert refused(box.settings, signed, BODY[:-1]) == "bad_signature"
    assert refused(box.settings, signed | {webhooks.TIMESTAMP: str(at(1))}) == "bad_signature"
    # A digit can move from the body to the time, as the signature is over both in one; then the time can't be.
    moved = webhooks.sign(box.private_key, at(0), b"1" + BODY) | {webhooks.TIMESTAMP: f"{at(0)}1"}
    assert refused(box.settings, moved) == "stale"
    assert box.rows(tables.webhook_bodies) == []


def test_a_request_without_signature_or_time_is_refused(box: PostBox) -> None:
    signed = webhooks.sign(box.private_key, at(0), BODY)
    for missing in (webhooks.SIGNATURE, webhooks.TIMESTAMP):
        assert refused(box.settings, {k: v for k, v in signed.items() if k != missing}) == "no_signature"
        assert refused(box.settings, signed | {missing: ""}) == "no_signature"
    assert refused(box.settings, {}) == "no_signature"


def test_a_time_that_is_none_is_refused(box: PostBox) -> None:
    for timestamp in ("now", "-1", "1.5", "1e9", " 1", "١٢٣", "9" * 30, "\x00", "1\n"):
        assert refused(box.settings, webhooks.sign(box.private_key, timestamp, BODY)) == "bad_signature"


@given(st.text())
@hypothesis_settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_stands_for_a_signature_is_refused(box: PostBox, text: str) -> None:
    headers = {webhooks.SIGNATURE: text, webhooks.TIMESTAMP: str(at(0))}
    assert refused(box.settings, headers) in ("bad_signature", "no_signature")
    encoded = base64.b64encode(text.encode(errors="replace")).decode()
    assert refused(box.settings, headers | {webhooks.SIGNATURE: encoded}) in ("bad_signature", "no_signature")


def test_an_old_request_is_refused_and_one_from_the_future(box: PostBox) -> None:
    assert refused(box.settings, webhooks.sign(box.private_key, at(26 * HOUR), BODY)) == "stale"
    assert refused(box.settings, webhooks.sign(box.private_key, at(-HOUR), BODY)) == "stale"
    assert refused(box.settings, webhooks.sign(box.private_key, 0, BODY)) == "stale"
    # A retry after a night without us, and a clock a minute ahead.
    for seconds in (23 * HOUR, -60):
        body = f'[{{"timestamp": {seconds}}}]'.encode()
        headers = webhooks.sign(box.private_key, at(seconds), body)
        assert webhooks.receive(box.settings, "sendgrid", headers, body) == "stored"


def test_the_age_allowed_is_a_setting(box: PostBox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONTROLTOWER_WEBHOOK_MAX_AGE", "600")
    conf = settings.load()
    assert refused(conf, webhooks.sign(box.private_key, at(601), BODY)) == "stale"
    assert webhooks.receive(conf, "sendgrid", webhooks.sign(box.private_key, at(598), BODY), BODY) == "stored"


def test_two_keys_are_ours_while_one_takes_the_others_place(box: PostBox, monkeypatch: pytest.MonkeyPatch) -> None:
    new, new_public = webhooks.keypair()
    old_public = webhooks.public_text(box.private_key.public_key())
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", f" {old_public} , {new_public}")
    both = settings.load()
    for key, body in ((box.private_key, b"[1]"), (new, b"[2]")):
        assert webhooks.receive(both, "sendgrid", webhooks.sign(key, at(0), body), body) == "stored"
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", new_public)
    assert refused(settings.load(), webhooks.sign(box.private_key, at(0), BODY)) == "bad_signature"


def _text(key: ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey) -> str:
    der = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


@pytest.mark.parametrize(
    "keys",
    ["", " , ", "not base64!", "YWJj", "AAAA", "ключ", "\x00",
     pytest.param(_text(ec.generate_private_key(ec.SECP384R1()).public_key()), id="another curve"),
     pytest.param(_text(ed25519.Ed25519PrivateKey.generate().public_key()), id="another algorithm")],
)  # fmt: skip
def test_without_a_usable_key_everything_is_refused(home: object, monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    if "\x00" not in keys:
        monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", keys)
    private_key, _ = webhooks.keypair()
    assert refused(settings.load(), webhooks.sign(private_key, at(0), BODY)) == "no_keys"


def test_a_broken_key_beside_a_good_one_does_no_harm(box: PostBox, monkeypatch: pytest.MonkeyPatch) -> None:
    good = webhooks.public_text(box.private_key.public_key())
    monkeypatch.setenv("CONTROLTOWER_SENDGRID_WEBHOOK_KEYS", f"broken,{good}")
    conf = settings.load()
    assert webhooks.receive(conf, "sendgrid", webhooks.sign(box.private_key, at(0), BODY), BODY) == "stored"


def test_a_provider_that_we_have_no_keys_of_is_refused(box: PostBox) -> None:
    with pytest.raises(Refused, match="no_keys"):
        webhooks.receive(box.settings, "mailgun", webhooks.sign(box.private_key, at(0), BODY), BODY)

"""SendGrid's v3 mail/send. https://www.twilio.com/docs/sendgrid/api-reference/mail-send/mail-send"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from email.utils import parsedate_to_datetime
from typing import Any

import orjson
from sendgrid.helpers import mail

from controltower.content.message import Email, Layout, SplitEmail
from controltower.delivery.policy import is_local
from controltower.delivery.providers.base import (
    UNAUTHORIZED,
    Answer,
    Envelope,
    Outgoing,
    Parcel,
    Result,
    Unfit,
    clean_secret,
    encoded,
    mail_address,
    refused_alone,
    retry_after,
)
from controltower.delivery.providers.client import Client
from controltower.errors import BadSettings
from controltower.settings import Settings, airflow_connection

_REJECTED = {400, 413}  # about this message; other 4xx are about the address, the method, the account


class SendGrid:
    """One shared client; the ledger retries, nothing else does."""

    name = "sendgrid"
    channel = "email"
    calls_at_once = 64
    splits = True
    checks = True

    def __init__(self, settings: Settings) -> None:
        base, self.secret = account(settings)
        self.local = is_local(base)
        self._headers = {"Authorization": f"Bearer {self.secret}"}
        self._client = Client(f"{base}/v3/mail/send")

    def trouble(self) -> str | None:
        return None

    def pack(self, outgoing: Sequence[Outgoing], envelope: Envelope, most: int) -> Iterator[Parcel]:
        alike: dict[object, list[Outgoing]] = {}
        for one in outgoing:
            try:
                mail_address(one.to)
            except Unfit as e:  # the others must not wait for it
                yield refused_alone(one, e)
                continue
            alike.setdefault(one.content.layout if isinstance(one.content, SplitEmail) else one.seq, []).append(one)
        for some in alike.values():
            for start in range(0, len(some), most):
                part = some[start : start + most]
                yield Parcel(part, encoded(payload(part, envelope)), check_only=envelope.check_only)

    def post(self, parcel: Parcel) -> Result:
        answer = self._client.post(parcel.body, self._headers)
        if parcel.check_only and isinstance(answer, Answer) and answer.status == 200:  # its word for a good check
            return Result("sent", None, answer.status)
        return answer if isinstance(answer, Result) else read_answer(answer)

    def close(self) -> None:
        self._client.close()


def account(settings: Settings) -> tuple[str, str]:
    """The API's address and key, of the environment or of Airflow's connection. BadSettings where there is no key."""
    connection = airflow_connection("sendgrid_default") or {}
    key = settings.sendgrid_api_key.get_secret_value() if settings.sendgrid_api_key else connection.get("password")
    if not key:
        raise BadSettings(
            "There is no SendGrid API key.",
            "Set CONTROLTOWER_SENDGRID_API_KEY, or the password of Airflow's connection sendgrid_default.",
        )
    base = settings.sendgrid_url if settings.sendgrid_api_key else connection.get("host") or settings.sendgrid_url
    return base.rstrip("/"), clean_secret("The SendGrid API key", key)


def payload(outgoing: Sequence[Outgoing], envelope: Envelope) -> dict[str, Any]:
    """The request for mails of one layout, or for one that was made whole. SendGrid's click tracking is off: links are
    ours. SendGrid's own helpers build what the mails share.

    A test send names no campaign: SendGrid's own statistics are to count it apart.
    """
    sender, options = envelope.shop.sender, envelope.shop.sendgrid
    first = outgoing[0].content
    shared = first.layout if isinstance(first, SplitEmail) else first
    assert isinstance(shared, Layout | Email)
    message = mail.Mail(from_email=mail.Email(sender.email, sender.name), subject=shared.subject)
    message.add_content(mail.Content("text/plain", shared.text))
    message.add_content(mail.Content("text/html", shared.html))
    own = ["test"] if envelope.test else [envelope.campaign, f"{envelope.campaign}.{envelope.variant}"]
    for category in dict.fromkeys([*own, *options.categories]):
        message.add_category(mail.Category(category))
    message.tracking_settings = mail.TrackingSettings(click_tracking=mail.ClickTracking(False, False))
    if sender.reply_to:
        message.reply_to = mail.ReplyTo(sender.reply_to)
    if options.asm_group_id:
        message.asm = mail.Asm(mail.GroupId(options.asm_group_id))
    if options.ip_pool_name:
        message.ip_pool_name = mail.IpPoolName(options.ip_pool_name)
    if envelope.check_only:
        message.mail_settings = mail.MailSettings(sandbox_mode=mail.SandBoxMode(True))
    body: dict[str, Any] = message.get()
    return body | {"personalizations": [_personalization(one) for one in outgoing]}


def _personalization(one: Outgoing) -> dict[str, Any]:
    """One recipient's part. Their headers hold addresses of ours, and nothing of theirs."""
    email = one.content
    assert isinstance(email, SplitEmail | Email)
    own: dict[str, Any] = {
        "to": [{"email": mail_address(one.to)}], "headers": email.headers, "custom_args": {"message_id": one.message_id}
    }  # fmt: skip
    if isinstance(email, SplitEmail):
        own["substitutions"] = orjson.Fragment(email.json)
    return own


def read_answer(answer: Answer) -> Result:
    """What SendGrid's answer means for the request. A 5xx may come after it took the mail: unknown."""
    status = answer.status
    if status == 202:
        used_up = answer.headers.get("x-ratelimit-remaining") == "0"
        wait = _until_reset(answer) if used_up else None
        return Result("sent", None, status, answer.headers.get("x-message-id"), retry_in=wait)
    if status in (401, 403):
        stop = f"SendGrid refuses our API key or sender ({status}). Check the key and the sender's verification."
        return Result("retry", UNAUTHORIZED, status, stop=stop)
    if status == 429:
        return Result("retry", "rate_limited", status, retry_in=retry_after(answer) or _until_reset(answer))
    if status == 503:
        return Result("retry", "unavailable", status, retry_in=retry_after(answer))
    if status in _REJECTED:
        return Result("rejected", _first_field(answer), status)
    if status < 500:
        stop = f"It answered {status}, as SendGrid's mail/send does not. Check CONTROLTOWER_SENDGRID_URL."
        return Result("retry", f"http_{status}", status, stop=stop)
    return Result("unknown", f"http_{status}", status)


def _until_reset(answer: Answer) -> float | None:
    """Seconds until the limit's reset, by the provider's own clock."""
    try:
        now = parsedate_to_datetime(answer.headers["date"]).timestamp()
        return max(float(answer.headers["x-ratelimit-reset"]) - now, 1.0)
    except (KeyError, ValueError):
        return None


def _first_field(answer: Answer) -> str:
    """The field that SendGrid found fault with; never its message, which may quote an address."""
    try:
        field = answer.json()["errors"][0]["field"]
    except (ValueError, KeyError, IndexError, TypeError):
        field = None
    return f"invalid:{field}" if field else "invalid"


PROVIDER = SendGrid

"""The whole request for one mail, as SendGrid gets it."""

from __future__ import annotations

from datetime import timedelta

from controltower.content.message import Email
from controltower.delivery.providers import sendgrid
from controltower.delivery.providers.base import Envelope, Outgoing
from controltower.settings import INCLUDE, parse_shop

MESSAGE_ID = "0123456789abcdef0123456789abcdef"


def test_the_request_holds_this_and_nothing_else() -> None:
    """Above all: SendGrid's click tracking is off, in both parts. Links are ours; SendGrid's would replace them."""
    shop = parse_shop(INCLUDE / "shops" / "simulated.yaml")
    email = Email("제목", "<p>안녕하세요</p>", "안녕하세요", {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"})
    one = Outgoing(1, MESSAGE_ID, "c0@customers.example", email)
    request = sendgrid.payload([one], Envelope(shop, "spring", "a", timedelta(days=1)))
    assert request == {
        "from": {"email": "hello@haru.example", "name": "하루상점 Haru"},
        "subject": "제목",
        "personalizations": [
            {
                "to": [{"email": "c0@customers.example"}],
                "headers": {"List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
                "custom_args": {"message_id": MESSAGE_ID},
            }
        ],
        "content": [
            {"type": "text/plain", "value": "안녕하세요"},
            {"type": "text/html", "value": "<p>안녕하세요</p>"},
        ],
        "categories": ["spring.a", "spring"],
        "tracking_settings": {"click_tracking": {"enable": False, "enable_text": False}},
    }

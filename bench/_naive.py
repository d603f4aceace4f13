"""The naive way to send a campaign: one after the other with SendGrid's own client, over TLS with a time limit."""

from __future__ import annotations

import time
from datetime import timedelta

import sendgrid
from controltower import settings
from controltower.campaigns.composing import Composer, catalogue
from controltower.campaigns.specs import find_spec
from controltower.data.lake import Lake
from controltower.delivery.providers.base import Envelope, Outgoing
from controltower.delivery.providers.sendgrid import payload
from controltower.profiles.contacts import contacts
from controltower.settings import Settings

from bench import _campaign

MAILS, VARIANT = 300, "we_miss_you"


class Naive:
    """Renders and sends the first mails of the campaign; whom to write to and what to show is known beforehand."""

    def __init__(self, conf: Settings) -> None:
        shop = settings.load_shop(conf)
        self._client = sendgrid.SendGridAPIClient("SG.bench", host=conf.sendgrid_url)
        self._client.client.timeout = 20
        self._composer = Composer.of(conf, shop, find_spec(conf.campaigns, _campaign.CAMPAIGN))
        self._envelope = Envelope(shop, _campaign.CAMPAIGN, VARIANT, timedelta(days=1))
        products = [f"p{n}" for n in range(_campaign.PRODUCTS)]
        with Lake(conf).read(_campaign.PLANNED) as lake:
            self._who = list(contacts(lake, shop, _campaign.customers(MAILS)).values())
            self._items = catalogue(lake, products)
        self._picks = [
            [
                {"product_id": products[(7 * n + m) % 400], "algorithm": "als", "reason": "popular", "value": None}
                for m in range(_campaign.SHOWN)
            ]
            for n in range(MAILS)
        ]

    def micros(self) -> float:
        """CPU of this process per mail, in microseconds."""
        began = time.process_time()
        for number, (contact, picks) in enumerate(zip(self._who, self._picks, strict=True)):
            message_id = f"{number:032x}"
            email = self._composer.email(self._composer.context(contact, picks, self._items, message_id), VARIANT)
            one = Outgoing(number, message_id, str(contact.email), email)
            self._client.client.mail.send.post(request_body=payload([one], self._envelope))
        return (time.process_time() - began) / MAILS * 1e6

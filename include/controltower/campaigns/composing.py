"""Composing a campaign's message for one customer: the spec's words, the template, the products."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from controltower.campaigns.specs import Spec, Variant
from controltower.campaigns.timing import in_korea
from controltower.content import links, reasons, templates
from controltower.content.message import Context, Email, Product, Push
from controltower.data.lake import Reading
from controltower.errors import BadSpec
from controltower.profiles.contacts import Contact
from controltower.settings import Settings, Shop


@dataclass(frozen=True)
class CatalogueItem:
    """What a message shows of a product."""

    product_id: str
    title: str
    price: Decimal
    currency: str
    url: str | None
    image_url: str | None


def catalogue(reading: Reading, product_ids: Collection[str]) -> dict[str, CatalogueItem]:
    """The products given, as of the reading."""
    rows = reading.of("products", "product_id", product_ids, [f.name for f in fields(CatalogueItem)])
    return {row["product_id"]: CatalogueItem(**row) for row in rows.to_pylist()}


@dataclass(frozen=True)
class Composer:
    """Everything that the messages of one run share."""

    settings: Settings
    shop: Shop
    spec: Spec
    template: templates.Template

    @classmethod
    def of(cls, settings: Settings, shop: Shop, spec: Spec) -> Composer:
        return cls(settings, shop, spec, templates.load(settings.templates, spec.template))

    def email(self, context: Context, variant: str) -> Email:
        words = self._variant(variant)
        return self.template.email(
            context,
            subject=in_language(words.subject, context.locale, self.shop),
            preheader=in_language(words.preheader, context.locale, self.shop),
        )

    def push(self, context: Context, variant: str) -> Push:
        words = self._variant(variant)
        return self.template.push(
            context,
            title=in_language(words.push_title, context.locale, self.shop),
            body=in_language(words.push_body, context.locale, self.shop),
        )

    def in_app(self, context: Context, variant: str) -> Push:
        words = self._variant(variant)
        return self.template.in_app(
            context,
            title=in_language(words.in_app_title, context.locale, self.shop),
            body=in_language(words.in_app_body, context.locale, self.shop),
        )

    def context(
        self,
        contact: Contact,
        products: Sequence[Mapping[str, Any]],
        items: Mapping[str, CatalogueItem],
        message_id: str,
    ) -> Context:
        """What a message may say; `products` are a decision's picks, those gone from the catalogue are left out.

        A product without a page of its own leads to the shop's.
        """
        language = self.template.locales.chain(contact.locale, self.shop.locale)[0]
        there = [(items[pick["product_id"]], pick) for pick in products if pick["product_id"] in items]

        def click(url: str, product_id: str | None = None, position: int | None = None) -> str:
            return links.click_url(self.settings, message_id, url, product_id, position)

        shown = tuple(
            Product(
                item.product_id, item.title, item.price, item.currency,
                click(links.web_address(item.url) or self.shop.url, item.product_id, position), item.image_url,
                reasons.word(pick["reason"], pick["value"], language),
            )
            for position, (item, pick) in enumerate(there, 1)
        )  # fmt: skip
        return Context(
            shop=self.shop,
            customer=contact.attributes,
            locale=contact.locale,
            products=shown,
            message_id=message_id,
            unsubscribe_url=links.unsubscribe_url(self.settings, message_id),
            preferences_url=links.preferences_url(self.settings, message_id),
            view_url=links.view_url(self.settings, message_id),
            shop_url=click(self.shop.url),
            advertisement=in_korea(contact.country, contact.zone),
        )

    def check(self) -> list[str]:
        """Render every variant in every language for sample customers: what a marketer should know, as sentences.

        Raises BadSpec where one can't be rendered.
        """
        emails, pushes, in_apps = [], [], []
        for v in self.spec.variants:
            if "email" in self.spec.channels:
                emails += [(v.subject[tag], in_language(v.preheader, tag, self.shop)) for tag in v.subject]
            if "push" in self.spec.channels:
                pushes += [(v.push_title[tag], in_language(v.push_body, tag, self.shop)) for tag in v.push_title]
            if "in_app" in self.spec.channels:
                in_apps += [(v.in_app_title[tag], in_language(v.in_app_body, tag, self.shop)) for tag in v.in_app_title]
        return templates.check(self.template, self.shop, emails, pushes, in_apps)

    def _variant(self, name: str) -> Variant:
        for variant in self.spec.variants:
            if variant.name == name:
                return variant
        raise BadSpec(f"{self.spec.name} has no variant {name!r}.")


def in_language(words: Mapping[str, str], locale: str, shop: Shop) -> str:
    """The customer's language, else the shop's, else English, else the first that there is."""
    for tag in (locale, shop.locale, "en"):
        for key in (tag, tag.split("-")[0]):
            if key in words:
                return words[key]
    return next(iter(words.values()), "")

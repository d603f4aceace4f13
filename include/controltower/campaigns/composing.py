"""Composing a campaign's message for one customer: the spec's words, the template, the products."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from typing import Any

from controltower.campaigns.specs import Spec, Variant
from controltower.campaigns.timing import in_korea
from controltower.content import links, reasons, templates
from controltower.content.message import Context, Email, Product, Push
from controltower.content.splitting import Group, SplitEmail, Splitter
from controltower.data.lake import Reading
from controltower.errors import BadSpec
from controltower.ledger.runs import Run
from controltower.profiles.contacts import Contact
from controltower.settings import Settings
from controltower.shop import Shop

_MOST_SHOWN = 65_536  # of one run's products, with their reasons


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
    splitter: Splitter
    _groups: dict[tuple[Any, ...], Group] = field(default_factory=dict, repr=False)
    _languages: dict[str, str] = field(default_factory=dict, repr=False)
    _shown: dict[tuple[Any, ...], tuple[CatalogueItem, Product]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, settings: Settings, shop: Shop, spec: Spec) -> Composer:
        template = templates.load(settings.templates, spec.template)
        return cls(settings, shop, spec, template, Splitter(template))

    @cached_property
    def key(self) -> bytes:
        """What signs the links."""
        return self.settings.signing_key()

    def changed_since(self, run: Run) -> str | None:
        """What isn't as it was when a run was planned, so that other messages would leave; None: nothing."""
        if self.template.content_hash != run.content_hash:
            return f"The template {run.spec['template']!r}"
        if run.shop_hash not in (None, self.shop.seen_hash):
            return "What recipients see of shop.yaml (the sender, the unsubscribe group, links)"
        return None

    def email(self, context: Context, variant: str) -> Email:
        subject, preheader = self._lines(context, variant)
        return self.template.email(context, subject, preheader, self._destinations("email", variant))

    def split_email(self, context: Context, variant: str) -> SplitEmail | Email:
        """The same e-mail as `email` makes, in two halves where that is possible."""
        key = (variant, context.locale, context.advertisement, len(context.products))
        group = self._groups.get(key)
        if group is None:
            subject, preheader = self._lines(context, variant)
            group = self.splitter.group(context, subject, preheader, self._destinations("email", variant))
            self._groups[key] = group
        return group.email(context)

    def push(self, context: Context, variant: str) -> Push:
        words = self._variant(variant)
        return self.template.push(
            context,
            title=in_language(words.push_title, context.locale, self.shop),
            body=in_language(words.push_body, context.locale, self.shop),
            destinations=self._destinations("push", variant),
        )

    def in_app(self, context: Context, variant: str) -> Push:
        words = self._variant(variant)
        return self.template.in_app(
            context,
            title=in_language(words.in_app_title, context.locale, self.shop),
            body=in_language(words.in_app_body, context.locale, self.shop),
            destinations=self._destinations("in_app", variant),
        )

    def context(
        self,
        contact: Contact,
        products: Sequence[Mapping[str, Any]],
        items: Mapping[str, CatalogueItem],
        message_id: str,
    ) -> Context:
        """What a message may say; `products` are a decision's picks, those gone from the catalogue are left out."""
        language = self._language(contact.locale)
        own = links.of_message(self.key, self.settings.public_url, message_id)
        return Context(
            shop=self.shop,
            customer=contact.attributes,
            locale=contact.locale,
            products=tuple(
                self._product(item, pick["reason"], pick["value"], language)
                for pick in products
                if (item := items.get(pick["product_id"]))
            ),
            message_id=message_id,
            unsubscribe_url=own.unsubscribe,
            preferences_url=own.preferences,
            view_url=own.view,
            click_url=own.click,
            advertisement=in_korea(contact.country, contact.zone),
        )

    def _language(self, locale: str) -> str:
        if locale not in self._languages:
            self._languages[locale] = self.template.locales.chain(locale, self.shop.locale)[0]
        return self._languages[locale]

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

    def _lines(self, context: Context, variant: str) -> tuple[str, str]:
        words = self._variant(variant)
        return (
            in_language(words.subject, context.locale, self.shop),
            in_language(words.preheader, context.locale, self.shop),
        )

    def _product(self, item: CatalogueItem, reason: str | None, value: str | None, language: str) -> Product:
        """One object for what looks the same, because a catalogue's products return in every mail."""
        key = (item.product_id, reason, value, language)
        kept = self._shown.get(key)
        if kept and kept[0] is item:
            return kept[1]
        if len(self._shown) >= _MOST_SHOWN:
            self._shown.clear()
        product = Product(
            item.product_id, item.title, item.price, item.currency, item.url, item.image_url,
            reasons.word(reason, value, language),
        )  # fmt: skip
        self._shown[key] = item, product
        return product

    def _destinations(self, channel: str, variant: str) -> links.Destinations:
        return links.Destinations(self.key, links.utm(self.shop, channel, self.spec.name, variant))

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

"""Composing a campaign's messages: the spec's words, the template, the products."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal
from functools import cached_property
from itertools import chain
from typing import Any

from controltower.campaigns.specs import Spec, Variant
from controltower.campaigns.timing import in_korea
from controltower.content import links, reasons, templates
from controltower.content.message import Context, Email, Product, Push, SplitEmail
from controltower.content.splitting import Group, Splitter
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

    def split(self, contexts: Sequence[Context], variant: str) -> list[SplitEmail | None]:
        """The same e-mails as `email` makes, in two halves; None in the place of one that must be made whole."""
        alike: dict[tuple[Any, ...], list[int]] = {}
        for n, c in enumerate(contexts):
            alike.setdefault((variant, c.locale, c.advertisement, len(c.products)), []).append(n)
        found: list[SplitEmail | None] = [None] * len(contexts)
        for key, places in alike.items():
            some = [contexts[n] for n in places]
            if key not in self._groups:
                lines = self._lines(some[0], variant)
                self._groups[key] = self.splitter.group(some[0], *lines, self._destinations("email", variant))
            for n, email in zip(places, self._groups[key].split(some), strict=True):
                found[n] = email
        return found

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
        return self.contexts([contact], [products], items, [message_id])[0]

    def contexts(
        self,
        who: Sequence[Contact],
        products: Sequence[Sequence[Mapping[str, Any]]],
        items: Mapping[str, CatalogueItem],
        message_ids: Sequence[str],
    ) -> list[Context]:
        """What messages may say, each as `context`."""
        own = links.of_messages(self.key, self.settings.public_url, message_ids)
        shown = self._shown_to(who, products, items)
        return [
            Context(
                self.shop, contact.attributes, contact.locale, theirs, message_id, mine.unsubscribe, mine.preferences,
                mine.view, mine.click, in_korea(contact.country, contact.zone),
            )
            for contact, theirs, message_id, mine in zip(who, shown, message_ids, own, strict=True)
        ]  # fmt: skip

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

    def _shown_to(
        self,
        who: Sequence[Contact],
        products: Sequence[Sequence[Mapping[str, Any]]],
        items: Mapping[str, CatalogueItem],
    ) -> Iterator[tuple[Product, ...]]:
        """What each customer is shown of the picks for them, which many may share."""
        different = {id(pick): pick for pick in chain.from_iterable(products)}
        by_language: dict[str, dict[int, Product | None]] = {}  # by the pick's id()
        for contact, picks in zip(who, products, strict=True):
            language = self._language(contact.locale)
            if language not in by_language:
                by_language[language] = {
                    key: self._product(item, pick["reason"], pick["value"], language) if item else None
                    for key, pick in different.items() for item in [items.get(pick["product_id"])]
                }  # fmt: skip
            known = by_language[language]
            yield tuple(filter(None, [known[id(pick)] for pick in picks]))

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

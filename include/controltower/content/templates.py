"""Templates: loaded and compiled once, then filled in for each customer.

A template `win_back` is email/win_back.mjml with email/win_back.txt, or push/win_back.yaml, or in_app/win_back.yaml, or
all of them, and the wording in locales/*.yaml. What a template may use is listed in values.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import escape

from controltower.content import reasons
from controltower.content.compiling import compile_mjml
from controltower.content.jinja import Places, check_names, compiled, environment, fill
from controltower.content.links import Destinations
from controltower.content.locales import Locales, Translate, parse_locale
from controltower.content.message import GMAIL_CLIPS_AT, Context, Email, Product, Push
from controltower.content.push import LIMIT, payload_size
from controltower.content.sources import NOTICES, Sources, read_sources
from controltower.content.text import label_advertisement, one_line, shorten
from controltower.content.values import template_values
from controltower.errors import BadSpec
from controltower.shop import Shop

SUBJECT_LENGTH = 150  # characters; clients show 40 to 80
PREHEADER_LENGTH = 200
TITLE_LENGTH = 100
BODY_LENGTH = 500

_CODES = (
    "popular",
    "viewed_together",
    "viewed_before",
    "because_you_viewed",
    "because_you_bought",
    "buy_again",
    "similar_taste",
)
_LONG_NAME = "Maximiliana-Theodora " * 15
_FCM_RESERVED = ("from", "message_type", "collapse_key", "google", "gcm")


@dataclass(frozen=True, eq=False)
class Template:
    """A compiled template; `content_hash` changes with any file that takes part in it."""

    name: str
    content_hash: str
    locales: Locales
    sources: Sources
    page: str  # the e-mail's HTML, with its Jinja in it
    _html: jinja2.Template | None
    _text: jinja2.Template | None
    _notices: Mapping[str, Mapping[str, jinja2.Template]]  # push and in_app, where there is a design
    _places: Places
    _translators: dict[tuple[str, ...], Translate] = field(default_factory=dict)

    @property
    def channels(self) -> list[str]:
        return [*["email"] * (self._html is not None), *self._notices]

    def email(
        self, context: Context, subject: str, preheader: str = "", destinations: Destinations | None = None
    ) -> Email:
        """The e-mail for one customer; `subject` and `preheader` are the campaign's own Jinja lines."""
        if self._html is None or self._text is None:
            raise BadSpec(f"The template {self.name!r} has no e-mail.", f"Write email/{self.name}.mjml.")
        values = self._values(context, destinations)
        line = _line("subject", subject, values, SUBJECT_LENGTH, context.advertisement)
        values["subject"] = line
        values["preheader"] = _line("preheader", preheader, values, PREHEADER_LENGTH) if preheader else ""
        return Email(
            subject=line,
            html=fill(self._html, values, self._places),
            text=tidy(fill(self._text, values)),
            headers=headers(context),
        )

    def push(self, context: Context, title: str, body: str, destinations: Destinations | None = None) -> Push:
        """The push for one customer."""
        return self._notice("push", context, title, body, destinations)

    def in_app(self, context: Context, title: str, body: str, destinations: Destinations | None = None) -> Push:
        """The message that the app shows to one customer; its form is a push's."""
        return self._notice("in_app", context, title, body, destinations)

    def _notice(self, channel: str, context: Context, title: str, body: str, destinations: Destinations | None) -> Push:
        """Korea's adverts end with a line that names the sender and the way to refuse."""
        if channel not in self._notices:
            raise BadSpec(f"The template {self.name!r} has no {channel}.", f"Write {channel}/{self.name}.yaml.")
        values = self._values(context, destinations)
        shown_title = _line("title", title, values, TITLE_LENGTH, context.advertisement)
        shown_body = _line("body", body, values, BODY_LENGTH)
        if context.advertisement:
            sender = context.shop.sender
            shown_body += "\n" + one_line(values["t"](f"{channel}.footer", sender=sender.name, contact=sender.contact))
        filled = {key: fill(part, values).strip() for key, part in self._notices[channel].items()}
        url, image = filled.pop("url", ""), filled.pop("image_url", "")
        return Push(
            title=shown_title,
            body=shown_body,
            url=url or values["shop_url"],
            image_url=image or None,
            data={key.removeprefix("data."): text for key, text in filled.items()} | {"message_id": context.message_id},
        )

    def language(self, context: Context) -> tuple[str, Translate]:
        """The language that a customer is written in, and its words."""
        chain = self.locales.chain(context.locale, context.shop.locale)
        if chain not in self._translators:
            self._translators[chain] = self.locales.translator(chain)
        return chain[0], self._translators[chain]

    def _values(self, context: Context, destinations: Destinations | None) -> dict[str, Any]:
        return template_values(context, *self.language(context), destinations)


def load(folder: Path, name: str) -> Template:
    """The template, compiled at most once per content in this process."""
    return _compile(read_sources(Path(folder), name))


@lru_cache(maxsize=64)
def _compile(sources: Sources) -> Template:
    locales = Locales({Path(p).stem: parse_locale(p, text) for p, text in sources.files if p.startswith("locales/")})
    html = text = None
    page, places = "", {}
    mjml = f"email/{sources.name}.mjml"
    if sources.get(mjml) is not None:
        markup = environment(autoescape=True)
        made = compile_mjml(sources, mjml, markup)
        page, places = made.html, made.places
        check_names(markup, page, mjml, places)
        html = compiled(markup, page, mjml)
        text = _text_part(sources)
    return Template(
        name=sources.name,
        content_hash=sources.content_hash,
        locales=locales,
        sources=sources,
        page=page,
        _html=html,
        _text=text,
        _notices={c: parts for c in NOTICES if (parts := _notice_parts(sources, c)) is not None},
        _places=places,
    )


def text_files(sources: Sources) -> dict[str, str]:
    """The plain-text part and what it includes, by their paths in templates/email."""
    return {p.removeprefix("email/"): t for p, t in sources.files if p.startswith("email/") and p.endswith(".txt")}


def _text_part(sources: Sources) -> jinja2.Template:
    files = text_files(sources)
    env = environment(autoescape=False, loader=text_loader(files))
    for name, source in files.items():
        check_names(env, source, f"email/{name}", None)
    return env.get_template(f"{sources.name}.txt")


def text_loader(files: Mapping[str, str]) -> jinja2.BaseLoader:
    """Included paths are relative to templates/email, as in MJML."""
    return jinja2.FunctionLoader(lambda name: (files[name], f"email/{name}", None) if name in files else None)


def _notice_parts(sources: Sources, channel: str) -> dict[str, jinja2.Template] | None:
    """The Jinja parts of a push or in-app design: url, image_url and data.<key>."""
    path = f"{channel}/{sources.name}.yaml"
    source = sources.get(path)
    if source is None:
        return None
    found = parse_locale(path, source)
    parts: dict[str, jinja2.Template] = {}
    env = environment(autoescape=False)
    for key, part in found.items():
        if key not in {"url", "image_url"} and not key.startswith("data."):
            raise BadSpec(f"{path}: {key} is unknown.", "A design has url, image_url and data.")
        if key.removeprefix("data.").startswith(_FCM_RESERVED) and key.startswith("data."):
            raise BadSpec(f"{path}: FCM keeps the name {key} for itself.", "Choose another name.")
        check_names(env, part, f"{path} {key}", None)
        parts[key] = compiled(env, part, f"{path} {key}")
    return parts


@lru_cache(maxsize=512)
def one_liner(what: str, source: str) -> jinja2.Template:
    env = environment(autoescape=False)
    where = f"{what} {source!r}"
    check_names(env, source, where, None)
    return compiled(env, source, where)


def _line(what: str, source: str, values: dict[str, Any], most: int, advertisement: bool = False) -> str:
    return finished_line(what, source, fill(one_liner(what, source), values), most, advertisement)


def finished_line(what: str, source: str, filled: str, most: int, advertisement: bool = False) -> str:
    """A subject, preheader or title as it leaves, of its source filled in. BadSpec where nothing is left of it."""
    line = one_line(filled)
    if not line:
        raise BadSpec(f"The {what} {source!r} is empty for some customers.", "Give it words of its own.")
    return shorten(label_advertisement(line) if advertisement else line, most)


def headers(context: Context) -> dict[str, str]:
    return {
        "List-Unsubscribe": f"<{context.unsubscribe_url}>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
    }


def tidy(text: str) -> str:
    """Lines without trailing blanks, never two empty ones in a row."""
    lines: list[str] = []
    for line in (line.rstrip() for line in text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip() + "\n"


def check(
    template: Template,
    shop: Shop,
    emails: Sequence[tuple[str, str]] = (),
    pushes: Sequence[tuple[str, str]] = (),
    in_apps: Sequence[tuple[str, str]] = (),
) -> list[str]:
    """Render with sample customers in every language; what a marketer should know comes back as sentences.

    `emails` are the campaign's (subject, preheader) sources, `pushes` and `in_apps` its (title, body) sources,
    one per variant; without any the template is tried with plain lines. Raises BadSpec where one can't be rendered.
    """
    if not (emails or pushes or in_apps):
        emails, pushes, in_apps = ([("Sample", "Sample")] * (c in template.channels) for c in ("email", *NOTICES))
    warnings: list[str] = []
    for context in samples(template, shop):
        language = context.locale
        for subject, preheader in emails:
            email = template.email(context, subject, preheader)
            if email.clipped:
                warnings.append(
                    f"{template.name} in {language} has {email.size:,} bytes of HTML: above {GMAIL_CLIPS_AT:,} Gmail"
                    " hides the end, the unsubscribe link included."
                )
            _check_imprint(template, context, email)
        for title, body in pushes:
            push = template.push(context, title, body)
            shown = {"title": push.title, "body": push.body, "image": push.image_url or ""}
            if payload_size({"notification": shown, "data": push.data}) > LIMIT:
                warnings.append(f"{template.name} in {language} makes pushes over {LIMIT:,} bytes: they get cut.")
        for title, body in in_apps:
            template.in_app(context, title, body)
    return list(dict.fromkeys(warnings))


def _check_imprint(template: Template, context: Context, email: Email) -> None:
    """What the law wants in every mail: who sends it, from where, and the ways out (Network Act 50(4), CAN-SPAM)."""
    sender = context.shop.sender
    for what, text in {
        "unsubscribe_url": context.unsubscribe_url,
        "preferences_url": context.preferences_url,
        "shop.sender.name": sender.name,
        "shop.sender.contact": sender.contact,
        "shop.sender.postal_address": sender.postal_address,
    }.items():
        for part, shown in {
            f"{template.name}.mjml": escape(text) in email.html,
            f"{template.name}.txt": text in email.text,
        }.items():
            if not shown:
                raise BadSpec(f"email/{part} doesn't show {what}.", "Include partials/footer: the law wants it.")


def samples(template: Template, shop: Shop) -> Iterator[Context]:
    """Contexts that cover what differs among customers: language, no name, a very long one, an odd number of products,
    pictures or none, a labelled advert or not."""
    for language in template.locales.languages:
        for number, (name, count, pictures, advertisement) in enumerate(
            [("Kim", 6, False, True), ("", 1, True, False), (_LONG_NAME, 5, True, True), (None, 6, True, False)]
        ):
            yield Context(
                shop=shop,
                customer={"first_name": name},
                locale=language,
                products=sample_products(count, shop, language, pictures),
                message_id=f"{number:032x}",
                unsubscribe_url=f"{shop.url}/unsubscribe",
                preferences_url=f"{shop.url}/preferences",
                view_url=f"{shop.url}/view",
                click_url="",
                advertisement=advertisement,
            )


def sample_products(count: int, shop: Shop, language: str, pictures: bool) -> tuple[Product, ...]:
    """Made-up products, every other one with a reason."""
    return tuple(_product(n, shop, language, pictures) for n in range(count))


def _product(number: int, shop: Shop, language: str, picture: bool) -> Product:
    return Product(
        product_id=f"sample-{number}",
        title=f"Sample product {number + 1} & <others>",
        price=Decimal("12300.5"),
        currency=shop.currency,
        url=f"{shop.url}/products/{number}",
        image_url=f"{shop.url}/products/{number}.jpg" if picture else None,
        reason=reasons.word(_CODES[number % len(_CODES)], "Another product", language) if number % 2 else None,
    )

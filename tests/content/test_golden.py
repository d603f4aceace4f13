"""Both designs in both languages, as they leave. Updated only by `make golden`; look at the difference."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

import pytest
from content.conftest import TEMPLATES
from controltower.content import links, templates
from controltower.content.message import Context

SUBJECT = {"ko": "{{ customer.first_name }}님께", "en": "For {{ customer.first_name }}"}


def destinations(context: Context, channel: str, campaign: str) -> links.Destinations:
    return links.Destinations(b"golden", links.utm(context.shop, channel, campaign, "a"))


@pytest.mark.parametrize("language", ["ko", "en"])
@pytest.mark.parametrize("name", ["win_back", "picked_for_you"])
def test_messages_are_as_kept(
    name: str, language: str, make_context: Callable[..., Context], golden: Callable[[str, str], None]
) -> None:
    template = templates.load(TEMPLATES, name)
    context = make_context(language)
    email = template.email(context, SUBJECT[language], "{{ products[0].title }}", destinations(context, "email", name))
    push = template.push(
        context,
        SUBJECT[language],
        "{{ products[0].title }} +{{ products | length - 1 }}",
        destinations(context, "push", name),
    )
    golden(f"{name}.{language}.html", email.html.replace("><", ">\n<"))  # one element a line, for readable differences
    golden(f"{name}.{language}.txt", email.text)
    rest = {"subject": email.subject, "headers": email.headers, "push": asdict(push)}
    if "in_app" in template.channels:
        rest["in_app"] = asdict(template.in_app(context, SUBJECT[language], "{{ products[0].title }}"))
    golden(f"{name}.{language}.json", json.dumps(rest, ensure_ascii=False, indent=2) + "\n")

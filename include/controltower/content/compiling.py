"""MJML with Jinja in it -> HTML with Jinja in it, once per template: MJML compiled, CSS inlined, tags in their place.

HTML and MJML parsers know nothing of Jinja: text between table rows is moved out of the table, braces in attributes
are escaped. So each Jinja tag travels through them as a word (in text and attributes) or a comment (between elements,
where HTML keeps comments in their place), and is put back at the end. What comes out is then compared with what went
in: nothing lost, nothing doubled, nothing moved, and every loop closes in the element that it opened in.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from html.parser import HTMLParser

import css_inline
import jinja2
import mrml

from controltower.content.sources import MJML_INCLUDE, Sources
from controltower.errors import BadSpec

_WORD = re.compile(r"(?P<comment><!--)?ctjinja(?P<number>\d+)z(?(comment)-->)")
_KEYWORD = re.compile(r"\{%[-+]?\s*(\w*)")
_BLOCKS = {"for": "endfor", "if": "endif", "with": "endwith"}
_ALLOWED = {*_BLOCKS, *_BLOCKS.values(), "else", "elif", "set"}
_VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
_CONTAINERS = frozenset(
    "mjml mj-head mj-body mj-section mj-wrapper mj-group mj-column mj-hero mj-attributes mj-navbar mj-social".split()
)
_ELEMENTS = _CONTAINERS | frozenset(
    "mj-all mj-class mj-breakpoint mj-font mj-html-attributes mj-preview mj-style mj-title mj-accordion mj-button"
    " mj-accordion-element mj-accordion-text mj-accordion-title mj-carousel mj-carousel-image mj-divider mj-image"
    " mj-include mj-navbar-link mj-raw mj-social-element mj-spacer mj-table mj-text".split()
)


@dataclass(frozen=True)
class Tag:
    """One Jinja tag of the source; `block` for {% %}, else an expression."""

    source: str
    file: str
    line: int
    block: bool

    @property
    def keyword(self) -> str:
        found = _KEYWORD.match(self.source)
        return found[1] if found else ""

    @property
    def where(self) -> str:
        return f"{self.file}:{self.line}"


@dataclass(frozen=True)
class Compiled:
    """HTML with Jinja, and for each of its lines the place in the source that a Jinja tag there came from."""

    html: str
    places: dict[int, str]


def compile_mjml(sources: Sources, path: str, jinja: jinja2.Environment) -> Compiled:
    """The HTML of an MJML file with its partials. BadSpec tells file and line of what is wrong."""
    tags: list[Tag] = []
    protected = _protect(sources, path, jinja, tags, ())
    if not protected.lstrip().startswith("<mjml") or "<mj-body" not in protected:
        raise BadSpec(f"{path}: this is no MJML document.", "Begin with <mjml> and put the content in <mj-body>.")
    try:
        # No web fonts: a mail must look the same without the network, and mrml would link them.
        html = mrml.to_html(protected, render_options=mrml.RenderOptions(fonts={})).content
    except OSError as e:
        raise BadSpec(
            f"{path}: the MJML can't be read: {e}.", "Compare the elements with email/win_back.mjml."
        ) from None
    try:
        inliner = css_inline.CSSInliner(keep_at_rules=True, load_remote_stylesheets=False)
        html = inliner.inline(html)
    except css_inline.InlineError as e:
        raise BadSpec(f"{path}: the CSS in mj-style can't be read: {e}.", "Correct the style sheet.") from None
    # The inliner puts the style sheet first; the character set must be told within the first 1,024 bytes.
    html = html.replace("<head>", '<head><meta charset="utf-8">', 1)
    _check_places(protected, html, tags)
    return _restore(html, tags)


def _protect(sources: Sources, path: str, jinja: jinja2.Environment, tags: list[Tag], within: tuple[str, ...]) -> str:
    """A file's text with words for its Jinja tags (appended to `tags`) and its partials put in."""
    if path in within:
        raise BadSpec(f"{path} includes itself.", "Take the mj-include out.")
    source = sources.get(path) or ""
    try:
        jinja.parse(source, path)
        tokens = list(jinja.lexer.tokeniter(source, path))
    except jinja2.TemplateSyntaxError as e:
        raise BadSpec(f"{path}:{e.lineno}: {str(e.message).rstrip('.')}.", "Correct the template.") from None
    text: list[str] = []
    markup = _Markup()
    tag = ""
    started = 0
    for line, kind, value in tokens:
        if kind in {"variable_begin", "block_begin", "comment_begin", "raw_begin"}:
            started = line
        if started:
            tag += value
        else:
            text.append(value)
            markup.feed(value)
        if kind in {"variable_end", "block_end", "comment_end", "raw_end"}:
            if kind != "comment_end":
                text.append(_word(Tag(tag, path, started, kind == "block_end"), tags, markup.within_tag))
            text.append("" if markup.within_tag else "\n" * tag.count("\n"))  # keeps the lines' numbers
            tag, started = "", 0
    walk = _MjmlNesting(tags, path)
    walk.feed("".join(text))
    walk.finish()

    def included(match: re.Match[str]) -> str:
        return _protect(sources, f"email/{match['path']}", jinja, tags, (*within, path))

    return MJML_INCLUDE.sub(included, "".join(text))


def _word(tag: Tag, tags: list[Tag], within_tag: bool) -> str:
    if tag.block and tag.keyword not in _ALLOWED:
        raise BadSpec(
            f"{tag.where}: {{% {tag.keyword} %}} can't be used in MJML.", "Use for, if, set, with, or mj-include."
        )
    if tag.block and within_tag:
        raise BadSpec(
            f"{tag.where}: {{% {tag.keyword} %}} stands inside an element's tag.",
            "Use an inline condition: attribute=\"{{ 'a' if x else 'b' }}\".",
        )
    tags.append(tag)
    word = f"ctjinja{len(tags) - 1}z"
    return f"<!--{word}-->" if tag.block else word


class _Markup:
    """Follows markup to tell whether it stands inside an element's tag; attributes may hold `>`, comments anything."""

    _SIGNS = re.compile(r"""<!--|-->|[<>"']""")

    def __init__(self) -> None:
        self.within_tag = False
        self._until = ""  # what ends the comment or the quoted attribute that we are in

    def feed(self, text: str) -> None:
        for found in self._SIGNS.finditer(text):
            sign = found[0]
            if self._until:
                self._until = "" if sign == self._until else self._until
            elif sign == "<!--":
                self._until = "-->"
            elif self.within_tag and sign in "\"'":
                self._until = sign
            elif sign in "<>":
                self.within_tag = sign == "<"


class _Nesting(HTMLParser):
    """Walks markup with a stack of open elements, each with a number of its own, and checks where blocks open."""

    def __init__(self, tags: list[Tag], path: str) -> None:
        super().__init__(convert_charrefs=False)
        self.tags, self.path = tags, path
        self.open: list[tuple[str, int]] = []
        self._count = 0
        self._blocks: list[tuple[Tag, int]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag not in _VOID:
            self._count += 1
            self.open.append((tag, self._count))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """`<x/>` leaves nothing open."""

    def handle_endtag(self, tag: str) -> None:
        if tag in _VOID:
            return
        if not self.open or self.open[-1][0] != tag:
            self.fail(f"</{tag}> closes what is not open" + (f": that is <{self.open[-1][0]}>" if self.open else ""))
        self.open.pop()

    def handle_comment(self, data: str) -> None:
        found = _WORD.fullmatch(f"<!--{data}-->")
        if not found:
            return
        tag = self.tags[int(found["number"])]
        place = self.open[-1][1] if self.open else 0
        if tag.keyword in _BLOCKS:
            self._blocks.append((tag, place))
        elif tag.keyword != "set":
            opened, expected = self._blocks[-1]
            if tag.keyword in _BLOCKS.values():
                self._blocks.pop()
            if place != expected:
                raise BadSpec(
                    f"{opened.where}: {{% {opened.keyword} %}} opens in another element than {tag.where}"
                    f" {{% {tag.keyword} %}}.",
                    "Open and close it side by side; write <tbody> yourself around rows in a table.",
                )

    def finish(self) -> None:
        self.close()
        if self.open:
            self.fail(f"<{self.open[-1][0]}> is not closed")

    def fail(self, what: str) -> None:
        raise BadSpec(f"{self.path}:{self.getpos()[0]}: {what}.", "Close every element in the order it was opened.")


class _MjmlNesting(_Nesting):
    """The same for MJML, of which mrml takes any elements and silently drops what it doesn't know."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._known(tag)
        super().handle_starttag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._known(tag)

    def handle_data(self, data: str) -> None:
        if data.strip() and self.open and self.open[-1][0] in _CONTAINERS:
            where = f"{self.path}:{self.getpos()[0]}"
            raise BadSpec(f"{where}: text stands directly in <{self.open[-1][0]}> and would be lost.", "Use <mj-text>.")

    def _known(self, tag: str) -> None:
        if tag.startswith("mj") and tag not in _ELEMENTS:
            where = f"{self.path}:{self.getpos()[0]}"
            raise BadSpec(f"{where}: <{tag}> is no MJML element.", "See https://documentation.mjml.io for their names.")


def _check_places(before: str, after: str, tags: list[Tag]) -> None:
    """BadSpec unless the blocks come in the same order, once each, and each expression between the same blocks."""
    was, now = _sections(before, tags), _sections(after, tags)
    for number, tag in enumerate(tags):
        if number not in now:
            raise BadSpec(f"{tag.where}: {tag.source} is lost in MJML.", "Put it where text or an attribute may stand.")
        if set(now[number]) != set(was[number]) or (tag.block and len(now[number]) > 1):
            raise BadSpec(f"{tag.where}: {tag.source} is moved by MJML.", "Put it inside the element it belongs to.")
    walk = _Nesting(tags, "the compiled HTML")
    walk.feed(after)
    walk.finish()


def _sections(text: str, tags: list[Tag]) -> dict[int, list[int]]:
    """For each tag, the block tags that it follows: how many were passed before each of its appearances."""
    passed = 0
    found: dict[int, list[int]] = {}
    for match in _WORD.finditer(text):
        number = int(match["number"])
        found.setdefault(number, []).append(passed)
        passed += tags[number].block
    return found


def _restore(html: str, tags: list[Tag]) -> Compiled:
    """Put the tags back. Each starts a line within its braces (which changes nothing) so that errors can be placed."""
    parts: list[str] = []
    places: dict[int, str] = {}
    line = 1
    end = 0
    for match in _WORD.finditer(html):
        tag = tags[int(match["number"])]
        source = re.sub(r"^(\{\{|\{%)([-+]?)", r"\1\2" + "\n", tag.source, count=1)
        before = html[end : match.start()]
        line += before.count("\n")
        height = source.count("\n")
        for n in range(height):
            places[line + 1 + n] = f"{tag.file}:{tag.line + n}"
        line += height
        parts += [before, source]
        end = match.end()
    return Compiled("".join([*parts, html[end:]]), places)

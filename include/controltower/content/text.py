"""Plain text made safe and short: header lines, cuts between what readers see as one character, Korea's label."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

ADVERTISEMENT = "(광고) "  # Network Act, Decree Annex 6: exactly this form, at the very start

_SPACE = re.compile(r"\s+")
# Marketers' own spellings of the label, which the law doesn't accept: `[광고]`, `(광 고)`, `( 광고 )`, ...
_OPENING, _CLOSING = r"[(\[（［【〔<《「]", r"[)\]）］】〕>》」]"
_WITHIN = r"[^\w)\]）］】〕>》」]*"
_LABELS = re.compile(rf"^(?:\s*{_OPENING}{_WITHIN}광{_WITHIN}고{_WITHIN}{_CLOSING}\s*)+")
_BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINER = "\u200d"


def one_line(text: str) -> str:
    """`text` without line breaks, control characters and direction overrides: nothing can become a second header.

    Joiners stay, because emoji and Persian need them.
    """
    if not text.isprintable():
        text = _SPACE.sub(" ", text)
        text = "".join(c for c in text if unicodedata.category(c) not in {"Cc", "Cs"} and c not in _BIDI_OVERRIDES)
    return " ".join(text.split())


def label_advertisement(line: str) -> str:
    """The line with Korea's label at its very start, once and in the lawful form."""
    return ADVERTISEMENT + _LABELS.sub("", line)


def shorten(text: str, most: int) -> str:
    """At most `most` characters, cut where a reader sees a character end, with an ellipsis where something went."""
    if len(text) <= most:
        return text
    kept = 0
    for end in boundaries(text):
        if end > most - 1:
            break
        kept = end
    return text[:kept].rstrip() + "…"


def boundaries(text: str) -> Iterator[int]:
    """The places where `text` may be cut: ends of grapheme clusters.

    The parts of Unicode's UAX 29 that matter in names and titles: combining marks, variation selectors, skin tones,
    joined emoji, flags, emoji tags, and conjoining Hangul.
    """
    flags = 0
    for i in range(1, len(text)):
        before, after = text[i - 1], text[i]
        flags = flags + 1 if _regional(before) else 0
        if not _joined(before, after, flags):
            yield i
    if text:
        yield len(text)


def _joined(before: str, after: str, flags: int) -> bool:
    if before.isascii() and after.isascii():
        return before == "\r" and after == "\n"
    return (
        after == _JOINER
        or before == _JOINER
        or unicodedata.category(after).startswith("M")
        or "\U0001f3fb" <= after <= "\U0001f3ff"  # skin tones
        or "\U000e0020" <= after <= "\U000e007f"  # tags, as in the flag of Scotland
        or (_regional(after) and flags % 2 == 1)
        or _hangul_joined(before, after)
    )


def _regional(c: str) -> bool:
    return "\U0001f1e6" <= c <= "\U0001f1ff"


def _hangul_joined(before: str, after: str) -> bool:
    """Whether two conjoining jamo (or a syllable and a jamo) make one syllable."""
    leading, vowel, trailing = ("\u1100", "\u115f"), ("\u1160", "\u11a7"), ("\u11a8", "\u11ff")

    def within(c: str, span: tuple[str, str]) -> bool:
        return span[0] <= c <= span[1]

    syllable = "\uac00" <= before <= "\ud7a3"
    if within(after, vowel):
        open_syllable = syllable and (ord(before) - 0xAC00) % 28 == 0
        return within(before, leading) or within(before, vowel) or open_syllable
    if within(after, trailing):
        return within(before, vowel) or within(before, trailing) or syllable
    return within(after, leading) and within(before, leading)

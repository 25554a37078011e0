"""Texts as a person reads them: entities decoded, tags gone, on one line.

Shops and libraries export pages: ``Soap &amp; Water``, ``12&quot; Ruler``, ``<p>bold</p>``, often
escaped twice. A tag is the name of an HTML element in angle brackets, so ``<3``, ``a < b`` and
``<grin>`` stay. An escaped tag was text on the page and stays as well, unless it is plain that a
page was escaped as a whole: ``&lt;br /&gt;``, ``&lt;b&gt;so&lt;/b&gt;``.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Sequence

import numpy as np

_LEVELS = 4  # how often a text may have been escaped
_BLOCKS = (  # a person sees a gap where they stand
    "address article aside blockquote body br caption center dd div dl dt fieldset figure footer "
    "form h1 h2 h3 h4 h5 h6 head header hr html iframe img input li main nav object ol option p "
    "pre section select table tbody td textarea tfoot th thead title tr ul video"
)
_INLINE = (
    "a abbr acronym b bdi bdo big button cite code del dfn em embed font i ins kbd label link mark "
    "meta nobr noscript param q s samp small span strike strong sub sup svg tt u var wbr"
)
_GAPS, _NO_GAPS = frozenset(_BLOCKS.split()), frozenset(_INLINE.split())
_NAMES = "|".join(sorted(_GAPS | _NO_GAPS, key=len, reverse=True))
_HIDDEN = re.compile(
    r"<!--.*?(?:-->|\Z)|<!DOCTYPE[^<>]*>|<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)",
    re.IGNORECASE | re.DOTALL,
)
_TAG = re.compile(
    rf"""</?({_NAMES})(?:\s(?:"[^"]*"|'[^']*'|[^"'<>])*|\s[^<>]*)?/?>"""
    rf"""|<({_NAMES})\s[^<>]*=[^<>]*\Z|</?(br|p|div|span)\s*/?\Z""",  # a text cut within a tag
    re.IGNORECASE,
)
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_BLANK, _DELETE = np.uint8(0x20), np.uint8(0x7F)
_CACHED = 1 << 17  # bytes looked at together
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_INVISIBLE = re.compile(r"[\u00ad\u200b\u2060\ufeff]")


def plain_text(text: str) -> str:
    """One line of text without markup; a text without any is returned as it is.

    Args:
        text: as the source has it.
    """
    if "&" in text or "<" in text:
        text = _without_markup(text)
    return text if text.isprintable() else _CONTROL.sub(" ", text)


def one_line(text: str) -> str:
    """``plain_text`` with every run of white space as one blank."""
    if text.isprintable() and "&" not in text and "<" not in text:
        if "  " not in text and text[:1] != " " != text[-1:]:
            return text  # as most are; a blank is the only white space that is printable
        return " ".join(text.split())
    return " ".join(plain_text(text).split())


def one_lines(texts: Sequence[str]) -> list[bytes]:
    """``one_line`` of each text in UTF-8; the bytes show which texts need no change."""
    encoded = list(map(str.encode, texts))
    letters = np.frombuffer(b"".join(encoded), dtype=np.uint8)
    ends = np.cumsum(np.fromiter(map(len, encoded), dtype=np.int64, count=len(encoded)))
    firsts = np.append(0, ends[:-1])[ends > np.append(0, ends[:-1])]
    lasts = np.append(firsts[1:], len(letters))[: len(firsts)] - 1
    edges = np.concatenate((firsts, lasts))
    places = [edges[letters[edges] == _BLANK]]
    for first in range(0, len(letters), _CACHED):
        part = letters[first : first + _CACHED + 1]  # two blanks may lie on both sides
        places.append(first + np.flatnonzero(_doubtful(part)))
    for row in np.unique(np.searchsorted(ends, np.concatenate(places), side="right")).tolist():
        encoded[row] = one_line(texts[row]).encode()
    return encoded


def _doubtful(letters: np.ndarray) -> np.ndarray:
    """``(n,)`` bool: bytes without which a text is on one line and has no markup."""
    found = (letters - _BLANK) >= _DELETE - _BLANK  # wraps below a blank; no ASCII, or controls
    found |= letters == ord("&")
    found |= letters == ord("<")
    blank = letters == _BLANK
    found[1:] |= blank[1:] & blank[:-1]
    return found


def join_texts(columns: Iterable[Sequence[str]]) -> list[str]:
    """Texts of the same items in one, ``". "`` between them; empty where an item has none.

    Args:
        columns: fields, a text an item each.
    """
    return [". ".join(filter(None, parts)) for parts in zip(*columns, strict=True)]


def _without_markup(text: str) -> str:
    before = text
    text = html.unescape(_strip(text, escaped=False))
    for _ in range(_LEVELS - 1):
        stripped = _strip(text, escaped=True) if "<" in text else text
        decoded = _ENTITY.sub(lambda found: html.unescape(found[0]), stripped)
        if decoded == text:
            break
        text = decoded
    if text == before:
        return text  # "AT&T", "a < b": nothing of it was markup
    return " ".join(_INVISIBLE.sub("", text).split())


def _strip(text: str, *, escaped: bool) -> str:
    """Without tags; of tags that were escaped only those that nobody writes about."""
    if "<" not in text:
        return text
    text = _HIDDEN.sub(" ", text)
    closed = set(re.findall(r"</(\w+)", text.lower()))

    def replacement(found: re.Match[str]) -> str:
        name = (found[1] or found[2] or found[3]).lower()
        if name in _GAPS:
            return " "
        bare = not found[0].strip("</>")[len(name) :].strip()
        is_text = name not in closed if escaped and bare else not bare
        return found[0] if is_text and "=" not in found[0] else ""

    return _TAG.sub(replacement, text)

"""Texts lose their markup and nothing else."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.data.texts import one_line, one_lines, plain_text


@pytest.mark.parametrize(
    ("given_text", "expected"),
    [
        ("Soap &amp; Water", "Soap & Water"),
        ("Soap &amp;amp; Water", "Soap & Water"),
        ("&amp;amp;amp;lt;3", "<3"),
        ("Barbie&reg; Doll", "Barbie® Doll"),
        ("12&quot; Ruler", '12" Ruler'),
        ("Tom &#39;n&#39; Jerry", "Tom 'n' Jerry"),
        ("Tom &#x27;n&#X27; Jerry", "Tom 'n' Jerry"),
        ("no semicolon &lt 3 &copy 2020", "no semicolon < 3 © 2020"),
        ("Nail &nbsp; File", "Nail File"),
        ('<span class="a-size-medium">Comb</span>', "Comb"),
        ("<p>one</p><p>two</p>", "one two"),
        ("one<br />two<BR>three", "one two three"),
        ("<b>bold</b>ness", "boldness"),
        ("a<script>var x = '<b>';</script>b<style>p {}</style>", "a b"),
        ("a<!-- hidden <b> -->b", "a b"),
        ("<!DOCTYPE html><html><body>x</body></html>", "x"),
        ('<a title="x > y" href=\'z\'>link</a>', "link"),
        ("cut within <a href=\"http://x", "cut within"),
        ("cut within <br", "cut within"),
        ("&lt;br /&gt;all&lt;br /&gt;of &lt;b&gt;it&lt;/b&gt;", "all of it"),
        ("A &lt;b&gt; C", "A <b> C"),
        ("the &lt;b&gt; of &amp;lt;b&amp;gt;", "the <b> of <b>"),
        ("line\x0bfeed\u2028and\x00nul", "line feed and nul"),
        ("soft&shy;hyphen", "softhyphen"),
        ("half &#xD800; a character", "half \ufffd a character"),
    ],
)  # fmt: skip
def test_markup_becomes_what_a_person_reads(given_text: str, expected: str) -> None:
    assert one_line(given_text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "AT&T", "R&D & Co", "Nice <3", "a < b", "a<b and c>d", "5 <6", "<grin>", "List<String>",
        "<john@example.org>", "&", "<", "&;", "<>", "</3", "x &unknown; y", "if x <y: z",
        "two  blanks", "caf\u00e9\u00a0cr\u00e8me", "", "\U0001f600 <3",
    ],
)  # fmt: skip
def test_what_is_no_markup_stays(text: str) -> None:
    assert plain_text(text) == text


@settings(max_examples=200)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters="&<")))
def test_a_text_without_markup_is_the_same_object(text: str) -> None:
    assert plain_text(text) is text


@settings(max_examples=200)
@given(st.lists(st.sampled_from([*"<>&;/abp #3\"'=", "&amp;", "<br>", "&lt;br&gt;", "<b>"])))
def test_no_mixture_of_markup_survives_or_fails(parts: list[str]) -> None:
    once = one_line("".join(parts))
    assert len(once) <= len("".join(parts))
    assert "<br>" not in once
    assert once == " ".join(once.split())


def test_hostile_texts_take_no_longer_than_their_length() -> None:
    begin = time.perf_counter()
    for part in ('<a "', "<a ", "<!--", "<script>", "&amp;", "<b>", "<a x='", "<br "):
        plain_text(part * 5_000)
    assert time.perf_counter() - begin < 20


TEXTS = st.lists(st.text(st.sampled_from("ab  <>&;\n\t\x7f\u00a0é😀"), max_size=9), max_size=20)


@pytest.mark.parametrize("together", [1, 4, 1 << 17])
@given(texts=TEXTS)
def test_many_texts_become_what_each_alone_becomes(texts: list[str], together: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("legos.data.texts._CACHED", together)
        assert one_lines(texts) == [one_line(text).encode() for text in texts]

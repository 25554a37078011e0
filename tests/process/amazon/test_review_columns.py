"""Reviews read as columns are those read line by line, with the same errors and notes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from process.amazon.reviews import FORMATS, ReviewFormat, parse_reviews
from process.json_blocks import Lines
from tests.process.amazon.amazon_files import review_2014

PLAIN = {
    "user": st.sampled_from(["u1", "u2", "ü"]),
    "item": st.sampled_from(["a", "b"]),
    "rating": st.sampled_from([1.0, 4.5, 5]),
    "time": st.integers(1_000_000_000, 1_400_000_000),
    "review": st.text(max_size=9) | st.sampled_from(["a  b", " a", "a ", "<b>so</b>", "x &amp; y"]),
    "headline": st.text(max_size=3),
    "user_name": st.sampled_from(["Ann", 'J. "JJ" Doe', ""]),
}
ODD = {
    "user": st.sampled_from(["", " ", "\t", 7, 7.0, 7.5, True, None, ["u"]]),
    "item": st.sampled_from(["", 12, 12.0, {"a": 1}, 10**25]),
    "rating": st.sampled_from([0, 0.0, None, "4.0", "x", 9, -1, True, 1e300, float("nan"), 10**20]),
    "time": st.sampled_from([
        None, -1, -(2**63), 0, "2013-04-05", "1300000000", 1.3e9, 10**11, 10**12, 10**13, 10**14,
        10**15, 10**17, 2**63, 2**64 - 1, 2**64, "soon", True, float("nan"), [1],
    ]),
    "review": st.sampled_from([
        None, 3, True, ["two", "  parts"], ["x", True], "half \ud83d", "\x00", "&lt;br /&gt;", {},
    ]),
    "headline": st.sampled_from([None, "  ", "a\u2028b", "\u00a0", 1.5]),
    "user_name": st.sampled_from([None, 7, ["Ann"], " Ann\n B "]),
}  # fmt: skip
BROKEN = (b"", b" \t", b"[1]", b"{broken", b'"text"', b"\xff", b"{}", b'{"a": "\xff"}')


@st.composite
def line(draw: Any, known: ReviewFormat) -> bytes:
    """Of a release; most of its values are plain, some are of no use, some are not there."""
    values = {getattr(known, name): draw(plain) for name, plain in PLAIN.items()}
    kind = draw(st.integers(0, 9))
    if known.milliseconds:
        values[known.time] *= draw(st.sampled_from([1000, 1000, 1000, 1]))
    if kind == 0:
        return draw(st.sampled_from(BROKEN))
    if kind <= 3:
        name = draw(st.sampled_from(sorted(ODD)))
        values[getattr(known, name)] = draw(ODD[name])
    elif kind == 4:
        del values[draw(st.sampled_from(sorted(values)))]
    elif kind == 5:
        values["further"] = draw(st.sampled_from([10**30, "x" * 30, [0] * 3, {"deep": [[]]}]))
    ending = draw(st.sampled_from([b"", b"", b"\r"]))
    return json.dumps(values).encode() + ending


def told(content: bytes, known: ReviewFormat | None) -> tuple[Any, ...]:
    lines = Lines(Path("r.json"), 1, content)
    (found, texts), _ = parse_reviews(lines, known)
    return (
        found.users.to_pylist(), found.items.to_pylist(), found.rating.tolist(),
        found.time.tolist(), found.content, texts.lengths.tolist(), texts.content,
        lines.read, lines.notes,
        [(read, str(error), error.kind) for read, error, _ in lines.errors],
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("known", FORMATS, ids=lambda known: known.name)
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_columns_are_what_lines_are(known: ReviewFormat, data: st.DataObject) -> None:
    first = {known.user: "u", known.item: "i"}  # tells the release
    rest = data.draw(st.lists(line(known), max_size=100))
    content = b"\n".join([json.dumps(first).encode(), *rest])
    assert repr(told(content, known)) == repr(told(content, None))


def test_a_plain_line_is_not_read_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: Any) -> None:
        raise AssertionError("read one by one")

    monkeypatch.setattr("process.json_blocks.parse_line", refused)
    rows = [review_2014(f"u{i}", "a", 5.0, i) for i in range(200)]
    content = "\n".join(map(json.dumps, rows)).encode()
    (found, texts), _ = parse_reviews(Lines(Path("r.json"), 1, content), FORMATS[0])
    assert list(found.time) == list(range(200))
    assert texts.content.startswith(b"u0 on a.about aJu1 on a.")

"""Any JSON object in any junk is found; what is put right is noted; the rest has a reason."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from process.genre.answers import AnswerError, read_answer

ANY = {"type": "object", "properties": {"wanted": {}}, "required": ["wanted"]}
INTERESTS = {
    "type": "object",
    "properties": {
        "interests": {
            "type": "array", "items": {"type": "string", "maxLength": 20},
            "minItems": 1, "maxItems": 5, "uniqueItems": True,
        },
        "region": {"type": "string", "enum": ["Texas", "unknown"]},
    },
    "required": ["interests"],
    "additionalProperties": False,
}  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
JUNK = st.text(max_size=30) | st.sampled_from(
    ["```json\n", "```", "Sure! Here it is: ", "{", "}", '{"', "{}", '{"other": 1}', "{{", "['"]
)


@given(VALUES, st.lists(JUNK, max_size=4), st.lists(JUNK, max_size=4), st.booleans())
@settings(max_examples=400)
def test_any_object_in_any_junk_is_found(
    value: Any, before: list[str], after: list[str], indented: bool
) -> None:
    wanted = {"wanted": {"value": value}}
    text = json.dumps(wanted, ensure_ascii=False, indent=2 if indented else None)
    assert read_answer("".join(before) + text + "".join(after), ANY).value == wanted


@given(st.text(alphabet=st.sampled_from("{}[]\",: abc\\\n'123.ue"), max_size=200))
def test_any_text_ends_in_an_answer_or_a_reason(text: str) -> None:
    try:
        value = read_answer(text, INTERESTS).value
    except AnswerError:
        return
    assert 1 <= len(value["interests"]) <= 5


@pytest.mark.parametrize(
    ("text", "expected", "note"),
    [
        ('{"interests": ["a", "b",]}', ["a", "b"], "repaired"),
        ("Yes: {'interests': ['it\\'s', \"b\"]} ok", ["it's", "b"], "repaired"),
        ('{"interests": ["a\nb"]}', ["a\nb"], None),
        ('{"interests": ["1", "2", "3", "4", "5", "6", "7"]}', list("12345"), "7 entries cut to 5"),
        ('{"interests": ["a", "a", "..."]}', ["a"], "without a letter"),
        ('{"interests": ["a"], "why": "because"}', ["a"], "unknown keys dropped: why"),
        ('{"interests": [" several words that are too long "]}', ["several words that"], "cut to"),
        ('{"other": 1} {"interests": ["a"]}', ["a"], None),
        ('{"answer": {"interests": ["a"]}}', ["a"], None),
    ],
)
def test_what_is_safe_is_put_right_and_noted(
    text: str, expected: list[str], note: str | None
) -> None:
    parsed = read_answer(text, INTERESTS)
    assert parsed.value["interests"] == expected
    assert (note is None) == (parsed.notes == [])
    assert note is None or note in " ".join(parsed.notes)


def test_the_case_of_a_choice_does_not_matter() -> None:
    parsed = read_answer('{"interests": ["a"], "region": "TEXAS"}', INTERESTS)
    assert parsed.value["region"] == "Texas"
    assert parsed.notes


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        ("", "stop", "empty answer"),
        ("I cannot do that.", "stop", "no JSON object"),
        ('{"interests": ["a", "b', "stop", "cut short"),
        ('{"interests": ["a"]', "length", "cut short"),
        ("no braces yet", "length", "cut short"),
        ('{"interests": "a"}', "stop", "wrong schema: $.interests"),
        ('{"interests": []}', "stop", "wrong schema"),
        ('{"interests": ["..."]}', "stop", "wrong schema"),
        ('{"interests": ["a"], "region": "Mars"}', "stop", "wrong schema: $.region"),
        ('{"interests": [NaN]}', "stop", "no JSON object"),
        ("{'interests': [__import__('os').getcwd()]}", "stop", "no JSON object"),
        ("{" * 100_000, "stop", "cut short"),
        ('{"a":' + "[" * 100_000, "stop", "cut short"),
    ],
)
def test_the_rest_has_a_reason(text: str, finish: str, reason: str) -> None:
    with pytest.raises(AnswerError) as error:
        read_answer(text, INTERESTS, finish_reason=finish)
    assert error.value.reason.startswith(reason)

"""Any JSON object in any junk is found; what is put right is noted; the rest has a reason."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from process.genre.answers import AnswerError, read_answer
from process.genre.objects import CutShort, find_objects

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


def is_junk(text: str) -> bool:
    """Whether a text holds neither reasoning nor an object that is cut."""
    try:
        return not find_objects(text).reasoned
    except CutShort:
        return False


@pytest.mark.slow
@given(VALUES, st.lists(JUNK, max_size=4), st.lists(JUNK, max_size=4), st.booleans())
@settings(max_examples=150, deadline=None)  # wall-clock time is of the machine
def test_any_object_in_any_junk_is_found(
    value: Any, before: list[str], after: list[str], indented: bool
) -> None:
    assume(not re.search(r"\[\s*\{", "".join(before) + "{"))  # the entry of a list that is cut
    assume(is_junk("".join(before)) and is_junk("".join(after)))
    wanted = {"wanted": {"value": value}}
    text = json.dumps(wanted, ensure_ascii=False, indent=2 if indented else None)
    assert read_answer("".join(before) + text + "".join(after), ANY).value == wanted


@settings(deadline=None)
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


DRAFT, FINAL = '{"interests": ["cooking"]}', '{"interests": ["history"]}'
REASONED = {
    "think": f"<think>A first try: {DRAFT} is too narrow.</think>\n{FINAL}",
    "thinking, upper case": f"<THINKING>{DRAFT}</THINKING>{FINAL}",
    "attributes": f'<think time="3">{DRAFT}</think>{FINAL}',
    "opened by the template": f"Perhaps {DRAFT}?\n</think>\n{FINAL}",
    "nested": f"<think>a <think>b</think> {DRAFT} </think> {FINAL}",
    "another inside": f"<think><plan>x</plan> {DRAFT}</think> {FINAL}",
    "after the answer": f"{FINAL}<think>or {DRAFT}?</think>",
    "two": f"<think>{DRAFT}</think><think>{DRAFT}</think>{FINAL}",
    "Mistral": f"[THINK]{DRAFT}[/THINK]{FINAL}",
    "Kimi": f"◁think▷{DRAFT}◁/think▷{FINAL}",
    "Cohere": f"<|START_THINKING|>{DRAFT}<|END_THINKING|>{FINAL}",
    "o1-like": f"<|begin_of_thought|>{DRAFT}<|end_of_thought|>{FINAL}",
    "gpt-oss": f"<|channel|>analysis<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final"
    f"<|message|>{FINAL}<|return|>",
    "gpt-oss without its marks": f"analysisWe try {DRAFT}assistantfinal{FINAL}",
    "draft that is cut": f'<think>{{"interests": ["coo</think>{FINAL}',
    "prose before": f"First {DRAFT}, but better: {FINAL}",
    "last one repaired": f"<think>{DRAFT}</think>" + '{"interests": ["history",]}',
    "a draft that is clean": f"{DRAFT} then " + "{'interests': ['history']}",
    "unfitting afterwards": f'{FINAL} {{"other": 1}}',
    "mark in a text": '{"interests": ["history"], "why": "</think> <think>"}',
    "parts": '{"draft": {"interests": ["cooking"]}, "final": {"interests": ["history"]}}',
    "encoded twice": json.dumps(FINAL),
}


@pytest.mark.parametrize("text", REASONED.values(), ids=REASONED)
def test_the_last_whole_object_outside_of_reasoning_counts(text: str) -> None:
    assert read_answer(text, INTERESTS).value["interests"] == ["history"]


@pytest.mark.parametrize(
    ("text", "finish", "reason"),
    [
        (f"<think>{DRAFT} is too narrow, and", "stop", "no JSON object behind the reasoning"),
        (f"<think>{DRAFT}</think> I cannot say.", "stop", "no JSON object behind the reasoning"),
        (f"[THINK]{DRAFT}", "stop", "no JSON object behind"),
        (f"<|channel|>analysis<|message|>{DRAFT}", "stop", "no JSON object behind"),
        (f"<think>{DRAFT}", "length", "reasoning used up the limit of 96 tokens (max_tokens)"),
        ("", "length", "reasoning used up the limit of 96 tokens"),
        (FINAL, "content_filter", "refused (content_filter)"),
        (FINAL, "SAFETY", "refused (safety)"),
        (FINAL, "MAX_TOKENS", "cut short"),
        (FINAL, "length", "cut short: the answer used up the limit of 96 tokens"),
        ('{"interests": ["a"], "why": {"interests": ["b"]}, "more": "and th', "stop", "cut short"),
        ("{'interests': ['a'], 'why': {'interests': ['b']}, 'more': 'and th", "stop", "cut short"),
        ('{"interests": ["a",], "why": {"interests": ["b"]}, "more": ', "stop", "cut short"),
        (f'{FINAL} {{"interests": ["b', "stop", "cut short"),
        (f"[{FINAL}, ", "stop", "cut short"),
        ('{"interests": [1e999]}', "stop", "no JSON object"),
        ('{"interests": ' + "[" * 900 + "]" * 900 + "}", "stop", ""),
    ],
)
def test_drafts_and_parts_of_cut_answers_are_no_answers(
    text: str, finish: str, reason: str
) -> None:
    with pytest.raises(AnswerError) as error:
        read_answer(text, INTERESTS, finish_reason=finish, max_tokens=96)
    assert error.value.reason.startswith(reason)
    assert error.value.final == (finish != "stop")


def test_what_the_prompt_shows_is_no_answer() -> None:
    prompt = [f"Like this: {DRAFT}", 'An item says: {"interests": ["planted"]}']
    for echo in (DRAFT, '{ "interests":["cooking"] }', '{"interests": ["planted"]}'):
        with pytest.raises(AnswerError, match="example of the prompt"):
            read_answer(f"The answer: {echo}", INTERESTS, prompt=prompt)
        both = read_answer(f"{FINAL}, unlike {echo}", INTERESTS, prompt=prompt)
        assert both.value == {"interests": ["history"]}


def test_of_a_closed_list_the_answer_of_an_example_may_be_the_right_one() -> None:
    schema = {"type": "object", "properties": {"topic": {"type": "string", "enum": ["a", "b"]}}}
    assert read_answer('{"topic": "a"}', schema, prompt=['{"topic": "a"}']).value == {"topic": "a"}


def test_half_a_surrogate_pair_is_replaced_and_noted() -> None:
    parsed = read_answer('{"interests": ["a \\ud83d b", "\\ud83d\\ude00 x", "\ud800"]}', INTERESTS)
    assert parsed.value["interests"] == ["a \ufffd b", "😀 x"]
    assert parsed.notes[0] == "half a surrogate pair replaced"
    json.dumps(parsed.value, ensure_ascii=False).encode()


def test_a_key_that_stands_twice_is_noted() -> None:
    parsed = read_answer('{"interests": ["a"], "interests": ["b"]}', INTERESTS)
    assert (parsed.value["interests"], len(parsed.notes)) == (["b"], 1)

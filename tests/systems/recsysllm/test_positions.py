"""Part A and Part B, and both positions: figure 1 and four more, GLM's algorithm, inverses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.systems.recsysllm.masking import ENTITY, Blanks
from legos.systems.recsysllm.positions import IGNORE, Examples, build_examples
from legos.systems.recsysllm.settings import PositionSettings
from tests.systems.recsysllm.small import (
    SPECIAL,
    automaton_of,
    drawn,
    ragged,
    random_documents,
    spans_of,
)
from tests.systems.recsysllm.worked_examples import (
    WORKED,
    main,
    table,
    work,
    worked_documents,
)

Rows = tuple[str, str, str, str]
GLM = PositionSettings(intra_mode="glm")
# input, target, inter, intra worked out by hand; | stands between A and B
GOLDEN: dict[tuple[str, str], Rows] = {
    ("E1", "paper"): (
        "[M] x4 [M] x6 x7 | [S] x1 x2 x3 [S] x5", "x1 x2 x3 [E] x5 [E]",
        "0 1 2 3 4 | 0 0 0 0 2 2", "0 0 0 1 2 | 1 2 3 4 1 2",
    ),
    ("E2", "paper"): (
        "x1 x2 x3 [M] | [S] x4 x5 x6 x7", "x4 x5 x6 x7 [E]",
        "0 1 2 3 | 3 3 3 3 3", "1 2 3 0 | 1 2 1 1 2",
    ),
    ("E3", "paper"): (
        "[M] x5 [M] | [S] x1 x2 x3 x4 [S] x6 x7", "x1 x2 x3 x4 [E] x6 x7 [E]",
        "0 1 2 | 0 0 0 0 0 2 2 2", "0 0 0 | 1 2 3 4 1 1 2 3",
    ),
    ("E4", "paper"): (
        "[gM] | [S] x1 x2 x3 x4 x5 x6 x7", "x1 x2 x3 x4 x5 x6 x7 [E]",
        "0 | 0 0 0 0 0 0 0 0", "0 | 1 2 3 4 1 1 1 2",
    ),
    ("E5", "paper"): (
        "[C] w1 w2 e1 e2 e3 , f1 f2 . [M] | [S] t1 t2 t3 t4", "t1 t2 t3 t4 [E]",
        "0 1 2 3 4 5 6 7 8 9 10 | 10 10 10 10 10", "0 0 0 1 2 3 0 1 2 0 0 | 1 2 3 4 5",
    ),
}  # fmt: skip
INTRA = {  # the other modes differ in what fills blanks alone
    ("E1", "run"): "1 2 3 4 1 2", ("E1", "glm"): "1 2 3 4 1 2",
    ("E2", "run"): "1 2 3 1 2", ("E2", "glm"): "1 2 3 4 5",
    ("E3", "run"): "1 2 3 4 1 1 2 3", ("E3", "glm"): "1 2 3 4 5 1 2 3",
    ("E4", "run"): "1 2 3 4 1 2 1 2", ("E4", "glm"): "1 2 3 4 5 6 7 8",
    ("E5", "run"): "1 2 3 4 5", ("E5", "glm"): "1 2 3 4 5",
}  # fmt: skip


@pytest.mark.parametrize("mode", ["paper", "run", "glm"])
@pytest.mark.parametrize("number", range(5))
def test_worked_examples(number: int, mode: Any) -> None:
    example = WORKED[number]
    name = example.title[:2]
    inputs, targets, inter, intra = GOLDEN[name, "paper"]
    if mode != "paper":
        intra = intra.partition("|")[0] + "| " + INTRA[name, mode]
    own = PositionSettings(intra_mode=mode)
    examples, words = work(example, own)
    lines = [line.split() for line in table(examples, words).splitlines()]
    assert lines[1][1:] == inputs.replace("| ", "").split()
    length = int(examples.prompt_lengths[0])
    assert length == inputs.split().index("|")
    assert lines[2][1:] == ["-"] * length + targets.split()
    assert lines[3][1:] == inter.replace("| ", "").split()
    assert lines[4][1:] == intra.replace("| ", "").split()


def test_the_script_prints_all_five(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--mode", "run"])
    printed = capsys.readouterr().out
    assert [printed.count(f"E{number}:") for number in range(1, 6)] == [1] * 5
    assert "intra       1    2    3    0    1    2    3    1    2" in printed


def test_cls_counts_as_a_position_of_figure_1() -> None:
    documents, _ = worked_documents(WORKED[0].units)
    own = PositionSettings(prepend_cls=True)
    blanks = Blanks(_spans([[(0, 3), (4, 5)]]), torch.tensor([ENTITY]))
    examples = build_examples(documents, blanks, SPECIAL, own, automaton_of(documents, own))
    assert examples.inter.tolist() == [0, 1, 2, 3, 4, 5, 1, 1, 1, 1, 3, 3]
    assert examples.intra.tolist() == [0, 0, 0, 0, 1, 2, 1, 2, 3, 4, 1, 2]
    assert int(examples.tokens[0]) == SPECIAL.cls
    assert examples.masks.values.tolist() == [1, 3]


def _spans(rows: list[list[tuple[int, int]]]) -> Any:
    flat = ragged([[place for span in row for place in span] for row in rows])
    return type(flat)(flat.values.view(-1, 2), flat.offsets // 2)


def _slow(tokens: list[int], spans: list[tuple[int, int]], mask: int) -> list[list[int]]:
    """GLM's blocks, one token at a time: inputs, targets, positions, block positions."""
    rows: list[list[int]] = [[], [], [], []]
    places, at = [], 0
    for first, end in [*spans, (len(tokens), len(tokens))]:
        for token in tokens[at:first]:
            rows[0].append(token)
        if first < len(tokens):
            places.append(len(rows[0]))
            rows[0].append(mask)
        at = end
    length = len(rows[0])
    rows[1], rows[2], rows[3] = [IGNORE] * length, list(range(length)), [0] * length
    for (first, end), place in zip(spans, places, strict=True):
        piece = tokens[first:end]
        rows[0] += [SPECIAL.start, *piece]
        rows[1] += [*piece, SPECIAL.end]
        rows[2] += [place] * (len(piece) + 1)
        rows[3] += list(range(1, len(piece) + 2))
    return rows


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_mode_glm_equals_glm_on_plain_documents(seed: int) -> None:
    documents = random_documents(4, seed=seed, plain_only=True)
    blanks = drawn(documents, seed=seed)
    examples = build_examples(documents, blanks, SPECIAL, GLM, automaton_of(documents, GLM))
    masks = torch.tensor(SPECIAL.masks)[blanks.levels]
    for row in range(4):
        spans = [tuple(span) for span in _row(blanks.ranges, row).tolist()]
        expected = _slow(_row(documents.tokens, row).tolist(), spans, int(masks[row]))  # type: ignore[arg-type]
        part = slice(int(examples.offsets[row]), int(examples.offsets[row + 1]))
        found = [examples.tokens, examples.targets, examples.inter, examples.intra]
        assert [column[part].tolist() for column in found] == expected


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.sampled_from(["paper", "run", "glm"]), st.booleans())
def test_invariants_of_examples(seed: int, mode: Any, shuffle: bool) -> None:
    documents = random_documents(5, seed=seed)
    own = PositionSettings(intra_mode=mode, shuffle_spans=shuffle)
    blanks = drawn(documents, seed=seed)
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(len(blanks.ranges.values), generator=generator)
    examples = build_examples(
        documents, blanks, SPECIAL, own, automaton_of(documents, own),
        span_order=order if shuffle else None,
    )  # fmt: skip
    assert SPECIAL.end not in examples.tokens.tolist()
    assert SPECIAL.start not in examples.targets.tolist()
    lengths = blanks.ranges.values[:, 1] - blanks.ranges.values[:, 0]
    assert int((examples.targets != IGNORE).sum()) == int((lengths + 1).sum())
    for row in range(5):
        _check(examples.select(torch.tensor([row])), _row(documents.tokens, row).tolist(), shuffle)
    masked = [
        _row(documents.tokens, row)[a:b].tolist()
        for row, (a, b) in zip(blanks.ranges.rows.tolist(), blanks.ranges.values, strict=True)
    ]
    filled = _fillings(examples)
    assert sorted(masked) == sorted(filled)
    if not shuffle:
        assert masked == filled


def _check(one: Examples, original: list[int], shuffled: bool) -> None:
    length = int(one.prompt_lengths[0])
    prompt, places = one.tokens[:length].tolist(), one.masks.values
    assert one.inter[:length].tolist() == list(range(length))
    visible = torch.ones(length, dtype=torch.bool)
    visible[places] = False
    assert bool((one.intra[:length][~visible] == 0).all())
    is_plain = (one.tokens[:length] >= 30) & (one.tokens[:length] < 60)
    assert bool((one.intra[:length][is_plain] == 0).all())
    assert bool((one.intra[:length][visible & ~is_plain] >= 1).all())
    inter = places[spans_of(one)[length:]]  # the blank of each token of B
    assert one.inter[length:].tolist() == inter.tolist()
    starts = one.tokens[length:] == SPECIAL.start
    assert int(starts.sum()) == int((one.targets == SPECIAL.end).sum()) == len(places)
    assert bool((one.intra[length:][starts] == 1).all())
    if not shuffled:
        assert bool((places.diff() > 0).all())
    filled = dict(zip(places.tolist(), _fillings(one), strict=True))
    rebuilt = [token for at in range(length) for token in filled.get(at, [prompt[at]])]
    assert rebuilt == original  # A with its masks replaced


def _fillings(examples: Examples) -> list[list[int]]:
    found: list[list[int]] = []
    for token, target in zip(examples.tokens.tolist(), examples.targets.tolist(), strict=True):
        if token == SPECIAL.start:
            found.append([])
        elif target != IGNORE:
            found[-1].append(token)
    return found


def _row(rows: Any, row: int) -> Any:
    return rows.values[int(rows.offsets[row]) : int(rows.offsets[row + 1])]


def test_shuffled_blanks_come_in_another_order_and_prompts_are_part_a() -> None:
    documents = random_documents(30, seed=3)
    blanks = drawn(documents, seed=3)
    ordered = build_examples(documents, blanks, SPECIAL, GLM, automaton_of(documents, GLM))
    own = PositionSettings(intra_mode="glm", shuffle_spans=True)
    order = -torch.arange(len(blanks.ranges.values)).double()  # backwards
    backwards = build_examples(
        documents, blanks, SPECIAL, own, automaton_of(documents, own), span_order=order
    )
    assert backwards.tokens.tolist() != ordered.tokens.tolist()
    several = blanks.ranges.lengths > 1
    for row in several.nonzero()[:, 0].tolist():
        assert bool((_row(backwards.masks, row).diff() < 0).all())
    prompts = backwards.prompts()
    assert prompts.lengths.tolist() == ordered.prompt_lengths.tolist()
    assert prompts.tokens.tolist() == ordered.prompts().tokens.tolist()
    assert bool((prompts.targets == IGNORE).all())

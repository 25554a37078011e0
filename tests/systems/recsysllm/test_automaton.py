"""The trie, and the automaton: its table, training equals inference, and both equal gold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.errors import DataError
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.masking import Blanks
from legos.systems.recsysllm.positions import build_examples
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents
from legos.systems.trie import NOWHERE, ROOT, build_trie
from tests.systems.recsysllm.small import (
    SPECIAL,
    automaton_of,
    drawn,
    ragged,
    random_documents,
    spans_of,
)

POOL = [[1, 2, 3], [6, 7], [1, 2], [1, 2, 9, 9], [8]]
TABLE = [  # generated, ids with [START]: paper, run worked out by hand
    ("1 2 3", "1 2 3 4", "1 2 3 4"),
    ("4 5 6 7", "1 2 1 1 2", "1 2 3 1 2"),
    ("1 2 5 5", "1 2 3 1 1", "1 2 3 1 2"),
    ("1 2 9 5", "1 2 3 4 1", "1 2 3 4 1"),
    ("1 2 9 6 7", "1 2 3 4 1 2", "1 2 3 4 1 2"),
    ("1 2 1 2", "1 2 3 1 2", "1 2 3 1 2"),
    ("1 2 9 9 8 8 5 5 5", "1 2 3 4 5 1 1 1 1 1", "1 2 3 4 5 1 1 1 2 3"),
]


def _automaton(pool: list[list[int]] = POOL, **own: Any) -> Automaton:
    return Automaton(build_trie(ragged(pool)), PositionSettings(**own))


def _stepwise(automaton: Automaton, tokens: list[int]) -> list[int]:
    state, ids = automaton.start((1,)), []
    for token in tokens:
        state = automaton.step(state, torch.tensor([token]))
        ids.append(int(state.counts[0]))
    return ids


@pytest.mark.parametrize("case", range(len(TABLE)))
@pytest.mark.parametrize("mode", ["paper", "run"])
def test_ids_of_a_table_worked_out_by_hand(case: int, mode: Any) -> None:
    tokens, paper, run = TABLE[case]
    generated = [int(word) for word in tokens.split()]
    expected = [int(word) for word in (paper if mode == "paper" else run).split()][1:]
    automaton = _automaton(intra_mode=mode)
    assert _stepwise(automaton, generated) == expected
    assert automaton.number(ragged([generated])).tolist() == expected


tokens_lists = st.lists(st.lists(st.integers(1, 5), max_size=12), min_size=1, max_size=6)
pools = st.lists(st.lists(st.integers(1, 5), min_size=1, max_size=4), min_size=1, max_size=8)


@pytest.mark.slow
@settings(deadline=None, max_examples=150)
@given(pools, tokens_lists, st.sampled_from(["paper", "run", "glm"]))
def test_training_and_inference_number_alike(
    pool: list[list[int]], blanks: list[list[int]], mode: Any
) -> None:
    automaton = _automaton(pool, intra_mode=mode)
    expected = [count for tokens in blanks for count in _stepwise(automaton, tokens)]
    assert automaton.number(ragged(blanks)).tolist() == expected


def _gold(documents: Documents, blanks: Blanks, mode: str) -> list[list[int]]:
    """Ids of each document's blanks by the bounds of its own units, one token at a time."""
    found: list[list[int]] = []
    units = documents.units.rows.tolist()
    for row in range(len(documents)):
        begin, ids = int(documents.tokens.offsets[row]), []
        for first, end in blanks.ranges.row(row).tolist():
            count, before = 1, -1  # [START]
            ids.append(count)
            for token in range(begin + first, begin + end):
                unit = units[token]
                plain = not bool(documents.is_entity[unit])
                was_plain = before >= 0 and not bool(documents.is_entity[before])
                same = unit == before and not plain
                on = before < 0 or same or (mode == "run" and plain and was_plain)
                count, before = count + 1 if on else 1, unit
                ids.append(count)
        found.append(ids)
    return found


@pytest.mark.slow
def test_training_ids_are_those_of_the_automaton_and_gold_where_nothing_matches_by_chance() -> None:
    documents = random_documents(200, seed=9)
    blanks = drawn(documents)
    for mode in ("paper", "run"):
        own = PositionSettings(intra_mode=mode)
        automaton = automaton_of(documents, own)
        examples = build_examples(documents, blanks, SPECIAL, own, automaton)
        gold = _gold(documents, blanks, mode)
        agree = disagree = 0
        for row in range(len(documents)):
            one = examples.select(torch.tensor([row]))
            expected: list[int] = []
            for span in range(len(one.masks.values)):
                tokens = one.tokens[spans_of(one) == span].tolist()[1:]
                expected += [1, *_stepwise(automaton, tokens)]
            assert one.intra[spans_of(one) >= 0].tolist() == expected
            same = expected == gold[row]
            agree, disagree = agree + same, disagree + (not same)
        assert agree > 100  # entities beside entities may read as longer ones
        assert disagree > 0
        unique = random_documents(30, seed=10)
        values = unique.units.values.clone()
        entity = unique.is_entity[unique.units.rows]
        values[entity] = torch.arange(1000, 1000 + int(entity.sum()), dtype=values.dtype)
        unique = type(unique)(
            type(unique.units)(values, unique.units.offsets), *(
                getattr(unique, name) for name in list(unique.__dataclass_fields__)[1:]
            )
        )  # fmt: skip
        blanks_of_unique = drawn(unique)
        automaton = automaton_of(unique, own)
        examples = build_examples(unique, blanks_of_unique, SPECIAL, own, automaton)
        gold = _gold(unique, blanks_of_unique, mode)
        assert examples.intra[spans_of(examples) >= 0].tolist() == [
            one for ids in gold for one in ids
        ]


def test_gathered_beams_equal_replayed_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    for mode in ("paper", "run", "glm"):
        automaton = _automaton(intra_mode=mode)
        state, histories = automaton.start((6,)), [[] for _ in range(6)]
        for _ in range(12):
            beams = torch.randint(6, (6,), generator=generator)
            tokens = torch.randint(1, 10, (6,), generator=generator)
            state = automaton.step(state.select(beams), tokens)
            histories = [
                [*histories[beam], token]
                for beam, token in zip(beams.tolist(), tokens.tolist(), strict=True)
            ]
            replayed = [_stepwise(automaton, history)[-1] for history in histories]
            assert state.counts.tolist() == replayed


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(pools)
def test_the_trie_is_the_set_of_its_sequences(pool: list[list[int]]) -> None:
    trie = build_trie(ragged(pool))
    prefixes = {tuple(row[:length]) for row in pool for length in range(len(row) + 1)}
    assert trie.num_nodes == len(prefixes)
    assert trie.depth == max(len(row) for row in pool)
    reached = {(): ROOT}
    for prefix in sorted(prefixes, key=len)[1:]:
        node = trie.step(torch.tensor(reached[prefix[:-1]]), torch.tensor(prefix[-1]))
        reached[prefix] = int(node)
    assert sorted(reached.values()) == list(range(trie.num_nodes))
    for prefix, node in reached.items():
        ending = trie.ends.select(torch.tensor([node])).values.tolist()
        assert ending == [row for row, one in enumerate(pool) if tuple(one) == prefix]
        edges, mask = trie.allowed(torch.tensor([node]))
        children = {*trie.tokens[edges[mask]].tolist()}
        assert children == {one[-1] for one in prefixes if one and one[:-1] == prefix}
        assert bool(trie.is_end(torch.tensor(node))) == (list(prefix) in pool)
        lengths = [len(one) for one in prefixes if one[: len(prefix)] == prefix]
        assert bool(trie.unbranched[node]) == (len(set(lengths)) == len(lengths))
        only = reached[(*prefix, *children)] if len(children) == 1 else None
        assert int(trie.runs[node]) == (0 if only is None else 1 + int(trie.runs[only]))
    outside = torch.tensor([NOWHERE, ROOT, ROOT])
    assert trie.step(outside, torch.tensor([1, 99, -1])).tolist() == [NOWHERE] * 3
    assert not bool(trie.allowed(outside[:1])[1].any())


def test_entities_without_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="entity 1"):
        build_trie(ragged([[1], []]))

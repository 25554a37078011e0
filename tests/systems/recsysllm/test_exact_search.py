"""The search finds what a full enumeration finds, however it goes about it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.evaluation.rank import NO_ITEM
from legos.systems.exact_search import Found, SearchWork
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.decoding import ReadPrompts, read_prompts, score_candidates
from legos.systems.recsysllm.held_paths import find_entities
from legos.systems.recsysllm.measure import listed_items
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.trie import Slot, build_trie
from tests.systems.recsysllm.small import (
    FAMILIES,
    prompts_of,
    ragged,
    random_documents,
    small_backbone,
)

USERS, FIRST = 3, 100  # the lowest key of an entity
WORKS = [
    SearchWork(),
    SearchWork(dive=0, wave=1, ahead=0),
    SearchWork(dive=3, wave=2, ahead=9),
    SearchWork(dive=0, wave=500, ahead=1),
    SearchWork(dive=2, wave=3, ahead=1, most_held=6),  # most paths are read again
    SearchWork(dive=0, wave=5, ahead=2, most_held=0),
]
titles = st.lists(st.lists(st.integers(10, 12), min_size=1, max_size=6), min_size=1, max_size=25)


def _read(backbone: Any, users: int, automaton: Automaton, seed: int = 2) -> ReadPrompts:
    documents = random_documents(users, seed=seed, units=(2, 6))
    return read_prompts(backbone, prompts_of(backbone, documents, automaton))


def _enumerated(
    backbone: Any, read: ReadPrompts, items: list[list[int]], automaton: Automaton,
    barred: list[list[int]],
) -> list[list[tuple[float, int]]]:  # fmt: skip
    """Score and key of every item that is an answer, the best first, of equal ones the lowest."""
    users = len(barred)
    owners = torch.arange(users).repeat_interleave(len(items))
    scores = score_candidates(backbone, read, ragged(items * users), owners, automaton)
    return [
        sorted(
            ((score, FIRST + at) for at, score in enumerate(row) if FIRST + at not in own),
            key=lambda pair: (-round(pair[0], 9), pair[1]),  # equal but for rounding
        )
        for row, own in zip(scores.view(users, -1).tolist(), barred, strict=True)
    ]


def _check(
    found: Found, slot: Slot, expected: list[list[tuple[float, int]]], barred: list[list[int]],
    *, ties: bool = True,
) -> None:  # fmt: skip
    """What is said to be proven are the list and the scores of the enumeration.

    Without ``ties`` equal scores may stand in any order: bounds from few words and what they lack
    add up to a score that differs in its last bit.
    """
    count = found.nodes.shape[1]
    best = listed_items(slot, found.nodes, found.scores, ragged(barred), count)
    for user, wanted in enumerate(expected):
        sure, keys = int(found.proven[user]), [key for _, key in wanted]
        keys += [NO_ITEM] * count
        items = best.items[user, :sure].tolist()
        if ties:
            assert items == keys[:sure]
        else:
            known = {key: score for score, key in wanted} | {NO_ITEM: -1e9}
            assert len(set(items) - {NO_ITEM}) == len([key for key in items if key != NO_ITEM])
            right = [known[key] for key in keys[:sure]]
            assert [known[item] for item in items] == pytest.approx(right, rel=1e-9)
        scores = [score for score, _ in wanted[:sure]]
        assert best.scores[user, : len(scores)].tolist() == pytest.approx(scores, rel=1e-6)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    pool=titles,
    barred=st.lists(st.lists(st.integers(FIRST, FIRST + 24)), min_size=USERS, max_size=USERS),
    work=st.sampled_from(WORKS),
    count=st.sampled_from([1, 4, 40]),
    family=st.sampled_from(FAMILIES),
    alike=st.booleans(),
    row=st.sampled_from([1, 128]),
    frequent=st.sampled_from([0, 1, 1024]),
)
def test_lists_and_scores_are_those_of_a_full_enumeration(
    pool: list[list[int]], barred: list[list[int]], work: SearchWork, count: int, family: str,
    alike: bool, row: int, frequent: int,
) -> None:  # fmt: skip
    """Titles of three words begin others or are the same; ``alike``: all words as likely.

    Rows are as short as they can be, or hold a whole wave; bounds come from few words or from all,
    which are then equal to the last bit where all words are.
    """
    backbone = small_backbone(family).double()
    if alike:
        read_states = backbone.states
        backbone.states = lambda *given: torch.zeros_like(read_states(*given))
    trie = build_trie(ragged(pool))
    slot = Slot(trie, torch.arange(FIRST, FIRST + len(pool)))
    automaton = Automaton(trie, PositionSettings())
    read = _read(backbone, USERS, automaton)
    expected = _enumerated(backbone, read, pool, automaton, barred)
    with (
        patch("legos.systems.recsysllm.held_paths._ROW", row),
        patch("legos.systems.recsysllm.catalogue_head._FREQUENT", frequent),
    ):
        found = find_entities(
            backbone, read, slot, automaton, count=count, excluded=ragged(barred), work=work
        )
    assert found.proven.tolist() == [count] * USERS
    _check(found, slot, expected, barred, ties=not alike or frequent == 1024)


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(
    pool=titles,
    most=st.integers(0, 40),
    work=st.sampled_from(WORKS),
    family=st.sampled_from(["llama", "glm"]),
)
def test_what_a_bounded_search_calls_proven_is_right(
    pool: list[list[int]], most: int, work: SearchWork, family: str
) -> None:
    backbone = small_backbone(family).double()
    trie = build_trie(ragged(pool))
    slot = Slot(trie, torch.arange(FIRST, FIRST + len(pool)))
    automaton, barred = Automaton(trie, PositionSettings()), [[FIRST], [], [FIRST + 1]]
    read = _read(backbone, USERS, automaton)
    found = find_entities(
        backbone, read, slot, automaton, count=5, excluded=ragged(barred),
        work=replace(work, most_read=most),
    )  # fmt: skip
    _check(found, slot, _enumerated(backbone, read, pool, automaton, barred), barred)
    stopped = found.read < most
    assert bool((found.proven[stopped] == 5).all())  # it had work left otherwise


@pytest.mark.slow
@pytest.mark.parametrize("count", [148, 1_038])
def test_the_ten_best_of_catalogues_are_proven_without_reading_all(count: int) -> None:
    """Titles as a shop has them: a brand, then what it is; some users have had some of them."""
    generator = torch.Generator().manual_seed(4)
    lengths = torch.randint(1, 9, (count,), generator=generator)
    pool = [
        [10 + row % 17, *torch.randint(27, 60, (int(length),), generator=generator).tolist()]
        for row, length in enumerate(lengths)
    ]
    backbone, trie = small_backbone("llama").double(), build_trie(ragged(pool))
    slot = Slot(trie, torch.arange(FIRST, FIRST + count))
    automaton = Automaton(trie, PositionSettings())
    read = _read(backbone, USERS, automaton)
    barred = [list(range(FIRST, FIRST + 40)), [], [FIRST + 60]]
    expected = _enumerated(backbone, read, pool, automaton, barred)
    for work in (SearchWork(), SearchWork(dive=10, wave=200, ahead=0, most_held=50)):
        found = find_entities(
            backbone, read, slot, automaton, count=10, excluded=ragged(barred), work=work
        )
        assert found.proven.tolist() == [10] * USERS
        _check(found, slot, expected, barred)
        assert bool((found.read < trie.num_nodes).all())

"""Filling equals one forward, beams equal brute force, packed scores equal single ones."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from legos.errors import DataError
from legos.systems.recsysllm.automaton import Automaton
from legos.systems.recsysllm.backbones.decoder import DecoderBackbone
from legos.systems.recsysllm.beam_search import rank_entities
from legos.systems.recsysllm.decoding import (
    fill_blanks,
    read_prompts,
    score_candidates,
    token_losses,
)
from legos.systems.recsysllm.positions import IGNORE, Examples, build_examples, lay_out
from legos.systems.recsysllm.settings import PositionSettings
from legos.systems.recsysllm.units import Documents
from legos.systems.trie import NOWHERE, Slot, build_trie
from tests.systems.recsysllm.small import (
    FAMILIES,
    automaton_of,
    chosen,
    drawn,
    prompts_of,
    ragged,
    random_documents,
    small_backbone,
    small_llama,
    spans_of,
    with_answers,
)

USERS = 3


def _items(count: int = 40) -> list[list[int]]:
    """Items of 1 to 5 tokens; some begin others; all different."""
    generator = torch.Generator().manual_seed(5)
    items: set[tuple[int, ...]] = {(10,), (10, 11), (10, 11, 12), (11, 10)}
    while len(items) < count:
        length = int(torch.randint(1, 6, (1,), generator=generator))
        items.add(tuple(torch.randint(10, 20, (length,), generator=generator).tolist()))
    return [list(item) for item in sorted(items)]


def _world(family: str) -> tuple[Any, list[list[int]], Slot, Automaton, Documents]:
    backbone, items = small_backbone(family), _items()
    trie = build_trie(ragged(items))
    keys = torch.arange(100, 100 + len(items))
    documents = random_documents(USERS, seed=2, units=(2, 6))
    return backbone, items, Slot(trie, keys), Automaton(trie, PositionSettings()), documents


def _brute_force(
    backbone: Any, items: list[list[int]], automaton: Automaton, documents: Documents, **mask: Any
) -> Tensor:
    """``(users, items)``: every item in a forward of its own, by the training examples."""
    rows = []
    for user in range(len(documents)):
        scores = []
        for item in items:
            one = chosen(documents, [user])
            example = with_answers(one, [item], backbone.special, automaton)
            layout = lay_out(example, pad=0, **mask)
            states = backbone.states(layout.inputs, layout.mask).flatten(0, 1)
            at = example.targets != IGNORE
            losses = token_losses(backbone, states[layout.slots[at]], example.targets[at])
            scores.append(-losses.sum())
        rows.append(torch.stack(scores))
    return torch.stack(rows).detach()


def _keys(slot: Slot, nodes: Tensor) -> list[list[int]]:
    return [slot.entities(row[row != NOWHERE]).values.tolist() for row in nodes]


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_enough_beams_rank_as_brute_force_and_packed_scores_are_those(family: str) -> None:
    backbone, items, slot, automaton, documents = _world(family)
    expected = _brute_force(backbone, items, automaton, documents)
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    best, order = expected.sort(1, descending=True)
    for early_stop, max_tokens in ((True, 1024), (False, 1024), (True, 4), (False, 1)):
        found = rank_entities(
            backbone, read, slot, automaton, num_beams=len(items), early_stop=early_stop,
            max_tokens=max_tokens,
        )  # fmt: skip
        assert _keys(slot, found.nodes) == (order + 100).tolist()
        assert torch.allclose(found.scores, best, atol=5e-5)
    candidates = ragged(items * USERS)
    owners = torch.arange(USERS).repeat_interleave(len(items))
    for max_tokens in (1024, 30, 1):  # all at once, in chunks, one after the other
        scores = score_candidates(
            backbone, read, candidates, owners, automaton, max_tokens=max_tokens
        )
        assert torch.allclose(scores.view(USERS, -1), expected, atol=5e-5)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_packed_scores_are_exact_but_for_rounding(family: str) -> None:
    backbone, items, _, automaton, documents = _world(family)
    backbone.double()
    expected = _brute_force(backbone, items, automaton, documents)
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    owners = torch.arange(USERS).repeat_interleave(len(items))
    scores = score_candidates(backbone, read, ragged(items * USERS), owners, automaton)
    assert torch.allclose(scores.view(USERS, -1), expected, rtol=0, atol=1e-11)


@pytest.mark.slow
def test_packed_scores_of_different_candidates_a_prompt() -> None:
    backbone, items, _, automaton, documents = _world("llama")
    expected = _brute_force(backbone, items, automaton, documents)
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    pairs = [(0, 3), (0, 7), (0, 1), (2, 9), (2, 3)]  # none for user 1
    scores = score_candidates(
        backbone, read, ragged([items[item] for _, item in pairs]),
        torch.tensor([user for user, _ in pairs]), automaton,
    )  # fmt: skip
    assert scores.tolist() == pytest.approx([float(expected[pair]) for pair in pairs], abs=5e-5)
    with pytest.raises(DataError, match="ascend"):
        score_candidates(backbone, read, ragged(items[:2]), torch.tensor([1, 0]), automaton)


@pytest.mark.slow
@pytest.mark.parametrize("beams", [1, 4, 9])
def test_few_beams_write_items_alone_and_early_stop_changes_nothing(beams: int) -> None:
    backbone, items, slot, automaton, documents = _world("llama")
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    early, late = (
        rank_entities(backbone, read, slot, automaton, num_beams=beams, early_stop=stop)
        for stop in (True, False)
    )
    assert torch.equal(early.nodes, late.nodes)
    assert torch.allclose(early.scores, late.scores, atol=5e-5)
    assert bool(slot.trie.is_end(early.nodes[early.nodes != NOWHERE]).all())
    expected = _brute_force(backbone, items, automaton, documents)
    for user, keys in enumerate(_keys(slot, early.nodes)):
        scores = [float(expected[user, key - 100]) for key in keys]
        assert scores == pytest.approx(early.scores[user, : len(keys)].tolist(), abs=5e-5)
        assert len(set(keys)) == len(keys)


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("beams", [2, 12])
def test_titles_are_read_at_once_where_they_branch_no_more(
    family: str, beams: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two brands, then the rest of each title; one title begins another, long after that."""
    generator = torch.Generator().manual_seed(3)
    rest = torch.randint(10, 20, (10, 6), generator=generator)
    items = [[10 + row % 2, 12 + row // 2, *rest[row, : 1 + row % 6].tolist()] for row in range(10)]
    items += [[*items[0], 13], [*items[0], 13, 14, 15]]
    backbone = small_backbone(family)
    trie = build_trie(ragged(items))
    slot, automaton = Slot(trie, torch.arange(100, 112)), Automaton(trie, PositionSettings())
    documents = random_documents(USERS, seed=2, units=(2, 6))
    expected = _brute_force(backbone, items, automaton, documents)
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    widths = []
    states = backbone.states

    def counted(inputs: Any, *others: Any) -> Tensor:
        widths.append(inputs.tokens.shape[1])
        return states(inputs, *others)

    monkeypatch.setattr(backbone, "states", counted)
    barred = ragged([[100], [111, 105], []])
    found = rank_entities(backbone, read, slot, automaton, num_beams=beams, excluded=barred)
    assert len(widths) <= 4  # [START], brand, second token, all the others
    for user, nodes in enumerate(found.nodes):
        keys = slot.entities(nodes[nodes != NOWHERE]).values.tolist()
        scores = expected[user, [key - 100 for key in keys]]
        assert torch.allclose(found.scores[user, : len(keys)], scores, atol=5e-5)
        banned = barred.select(torch.tensor([user])).values.tolist()
        if beams == 12:
            order = expected[user].sort(descending=True).indices + 100
            assert keys == [key for key in order.tolist() if key not in banned]


def test_excluded_items_never_come_and_others_take_their_place() -> None:
    backbone, items, slot, automaton, documents = _world("glm")
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    whole = _keys(slot, rank_entities(backbone, read, slot, automaton, num_beams=40).nodes)
    excluded = ragged([whole[0][:3], [], whole[2][:1]])
    ranked = rank_entities(backbone, read, slot, automaton, num_beams=40, excluded=excluded)
    assert _keys(slot, ranked.nodes) == [whole[0][3:], whole[1], whole[2][1:]]
    beyond = ragged([[whole[1][0] + 140], [], []])  # no key of the slot, nor one of the next user
    ranked = rank_entities(backbone, read, slot, automaton, num_beams=40, excluded=beyond)
    assert _keys(slot, ranked.nodes) == whole
    assert len(items) == 40
    most = ragged([whole[0][:-3], whole[1][2:], list(range(100, 140))])  # all but three, two, none
    ranked = rank_entities(backbone, read, slot, automaton, num_beams=3, excluded=most)
    assert _keys(slot, ranked.nodes) == [whole[0][-3:], whole[1][:2], []]


@pytest.mark.parametrize("beams", [3, 8, 40])
def test_ranking_equals_that_of_generate_with_allowed_tokens(beams: int) -> None:
    """transformers' own search, in the one case that it can do: no table, causal, one prompt.

    Live beams are the same; it drops ends that are not among the K best steps, so that with few
    beams its results can only be worse.
    """
    adapter = DecoderBackbone(small_llama()).eval()
    special, items = adapter.special, _items()
    whole = small_llama(words=65)
    whole.load_state_dict(
        {**whole.state_dict(), **{f"model.{k}": v for k, v in adapter.model.state_dict().items()
                                  if "embed_tokens" not in k}}
    )  # fmt: skip
    table = torch.cat([adapter.token_table, adapter.new_tokens]).detach()
    whole.model.embed_tokens.weight.data.copy_(table)
    never = torch.tensor([*special.masks, special.start])
    whole.lm_head.register_forward_hook(
        lambda _, __, scores: scores.index_fill(-1, never, -torch.inf)
    )
    trie = build_trie(ragged(items))
    slot, automaton = Slot(trie, torch.arange(len(items))), Automaton(trie, PositionSettings())
    prefixes: dict[tuple[int, ...], list[int]] = {}
    for item in items:
        for length in range(len(item)):
            prefixes.setdefault(tuple(item[:length]), []).append(item[length])
        prefixes.setdefault(tuple(item), []).append(special.end)
    for user in range(USERS):
        one = chosen(random_documents(USERS, seed=2, units=(2, 6)), [user])
        prompts = prompts_of(adapter, one, automaton)
        read = read_prompts(adapter, prompts, bidirectional=False)
        found = rank_entities(adapter, read, slot, automaton, num_beams=beams)
        given = torch.cat([prompts.tokens, torch.tensor([special.start])])[None]
        length = given.shape[1]
        out = whole.generate(
            given, attention_mask=torch.ones_like(given), num_beams=beams, do_sample=False,
            num_return_sequences=beams, length_penalty=0.0, early_stopping="never",
            max_new_tokens=7, eos_token_id=special.end, pad_token_id=0, output_scores=True,
            return_dict_in_generate=True,
            prefix_allowed_tokens_fn=lambda _, ids, at=length: prefixes.get(
                tuple(ids[at:].tolist()), [special.end]
            ),
        )  # fmt: skip
        written = [
            [token for token in row[length:].tolist() if token not in (0, special.end)]
            for row in out.sequences
        ]
        ranked = [items[key] for key in _keys(slot, found.nodes)[0]]
        if beams == len(items):
            assert ranked == written
            assert torch.allclose(found.scores[0], out.sequences_scores, atol=1e-4)
            continue
        assert bool((found.scores[0] >= out.sequences_scores - 1e-4).all())
        ours = {tuple(item): score for item, score in zip(ranked, found.scores[0], strict=True)}
        for item, score in zip(written, out.sequences_scores, strict=True):
            if tuple(item) in ours:
                assert float(ours[tuple(item)]) == pytest.approx(float(score), abs=1e-4)
            else:
                assert float(score) <= float(found.scores[0, -1]) + 1e-4


def _forced(examples: Examples, special: Any) -> tuple[Any, list[Tensor]]:
    """A choice that writes what the examples have, and the scores it was shown."""
    plan: list[list[int]] = []
    counts = examples.masks.lengths.tolist()
    texts: list[list[list[int]]] = []
    for row, count in enumerate(counts):
        one = examples.select(torch.tensor([row]))
        texts.append([one.tokens[spans_of(one) == span].tolist()[1:] for span in range(count)])
    for number in range(max(counts)):
        longest = max(len(text[number]) for text in texts if len(text) > number)
        for step in range(longest + 1):
            plan.append([
                (text[number] + [special.end] * 99)[step] if len(text) > number else special.end
                for text in texts
            ])  # fmt: skip
    shown: list[Tensor] = []

    def choose(scores: Tensor) -> Tensor:
        shown.append(scores)
        return torch.tensor(plan[len(shown) - 1])

    return choose, shown


@pytest.mark.parametrize("family", FAMILIES)
def test_filling_with_a_cache_equals_one_forward(family: str) -> None:
    backbone = small_backbone(family)
    documents, own = random_documents(4, seed=4, units=(6, 12)), PositionSettings(intra_mode="run")
    automaton = automaton_of(documents, own)
    blanks = drawn(documents, ratio=0.5, sentence_weight=0, document_weight=0)
    examples = build_examples(documents, blanks, backbone.special, own, automaton)
    assert len(set(examples.masks.lengths.tolist())) > 1  # ragged in blanks, too
    layout = lay_out(examples, pad=0)
    logits = backbone.logits(backbone.states(layout.inputs, layout.mask))
    choose, shown = _forced(examples, backbone.special)
    read = read_prompts(backbone, examples.prompts())
    filled = fill_blanks(backbone, read, automaton, max_new=60, choose=choose)
    in_b = examples.targets != IGNORE
    starts = examples.tokens == backbone.special.start
    assert filled.tokens.values.tolist() == examples.tokens[in_b & ~starts].tolist()
    assert filled.intra.tolist() == examples.intra[in_b & ~starts].tolist()
    assert bool(filled.complete.all())
    flat = logits.flatten(0, 1)[layout.slots].detach()
    call = 0
    for number in range(int(examples.masks.lengths.max())):
        rows = [row for row in range(4) if int(examples.masks.lengths[row]) > number]
        places = {
            row: (torch.arange(len(in_b))[(spans_of(examples) == number)
                  & (torch.arange(4).repeat_interleave(examples.lengths) == row)]).tolist()
            for row in rows
        }  # fmt: skip
        for step in range(max(len(place) for place in places.values())):
            for row in rows:
                if step < len(places[row]):
                    seen = shown[call][row]
                    real = seen > -torch.inf
                    expected = flat[places[row][step]]
                    assert torch.allclose(seen[real], expected[real], atol=2e-5)
            call += 1
    assert call == len(shown)


def test_greedy_filling_stops_at_its_budget() -> None:
    backbone, _, _, automaton, documents = _world("glm")
    read = read_prompts(backbone, prompts_of(backbone, documents, automaton))
    filled = fill_blanks(backbone, read, automaton, max_new=4)
    assert bool((filled.tokens.lengths <= 4).all())
    assert bool((filled.complete | (filled.tokens.lengths == 4)).all())
    special = backbone.special
    assert not bool(torch.isin(filled.tokens.values, torch.tensor(special.masks)).any())
    several = random_documents(2, seed=1, units=(8, 9))
    blanks = drawn(several, ratio=0.5, sentence_weight=0, document_weight=0)
    many = build_examples(several, blanks, special, PositionSettings(), automaton)
    slot = Slot(automaton.trie, torch.arange(40))
    read = read_prompts(backbone, many.prompts())
    with pytest.raises(DataError, match="blanks, expected exactly one"):
        rank_entities(backbone, read, slot, automaton, num_beams=2)

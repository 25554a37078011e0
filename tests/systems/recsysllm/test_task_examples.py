"""Filled templates as columns: one blank each, and what is dropped where they are too long."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError

from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.catalogue import Catalogue
from legos.systems.recsysllm.positions import IGNORE, build_examples
from legos.systems.recsysllm.settings import (
    DecoderSettings,
    PositionSettings,
    RecsysllmConfig,
    TaskSettings,
)
from legos.systems.recsysllm.units import Documents, UnitTokenizer
from legos.systems.recsysllm.world import tokenized, told_items
from tests.systems.recsysllm.reviews import epoch_of, families, past_of
from tests.systems.recsysllm.small import SPECIAL, automaton_of, byte_tokenizer


def test_examples_become_prompts_with_one_blank(reviewed: Tables) -> None:
    made = families(reviewed)
    tokenizer = UnitTokenizer(byte_tokenizer())
    instances = made.mixture().batch(torch.arange(60), epoch=0)
    own = made.settings.model_copy(update={"max_tokens": 420, "max_answer_tokens": 40})
    documents, blanks = tokenized(instances, tokenizer, own)
    special = replace(SPECIAL, mask=300, sentence_mask=301, document_mask=302, start=303, end=304)
    examples = build_examples(
        documents,
        blanks,
        special,
        PositionSettings(),
        automaton_of(documents, PositionSettings()),
    )
    assert int(examples.lengths.max()) <= 420
    for row, one in enumerate(instances):
        begin, end = int(examples.offsets[row]), int(examples.offsets[row + 1])
        targets = examples.targets[begin:end]
        written = targets[targets != IGNORE].tolist()
        assert written[-1] == 304
        text = tokenizer.decode(written[:-1])
        assert one.reference.startswith(text.strip())
        assert len(text) == min(len(one.reference) + 1, 40)
        last = int(examples.tokens[begin + int(examples.prompt_lengths[row]) - 1])
        assert last == (301 if one.template.free_text else 300)  # the prompt ends with its mask
    lengths = [len(one.candidates) for one in instances]
    assert max(lengths) == 6


def test_prompts_read_as_text(reviewed: Tables) -> None:
    made = families(reviewed)
    texts = {}
    for instances in epoch_of(made, 0).values():
        for one in instances:
            text = "".join(unit.surface for unit in (*one.prompt, *one.answer))
            assert "  " not in text
            for unit in (*one.prompt[1:], *one.answer):  # only points touch what is before them
                assert unit.space or unit.text[0] in '.,:;?!"' or one.template.intent == "headline"
            assert not one.prompt[0].space
            texts[one.template.name] = text
    name = made.catalogue.users[texts_user(texts["direct-5"])]
    assert texts["direct-5"].startswith(f"For {name} choose the best of Thing number ")
    assert texts["direct-5"].count(", deluxe, ") >= 3


def texts_user(text: str) -> int:
    return int(text.split("user_")[1].split()[0])


def _items_of(
    documents: Documents, row: int, tokenizer: UnitTokenizer, catalogue: Catalogue
) -> list[int]:
    """Items of a document by number, in its order."""
    numbers = {name: number for number, name in enumerate(catalogue.items)}
    units = documents.numbers.row(row).tolist()
    texts = [tokenizer.decode(documents.units.row(unit).tolist()).strip() for unit in units]
    return [numbers[text] for text in texts if text in numbers]


def test_long_histories_lose_their_oldest_events(reviewed: Tables) -> None:
    made = families(reviewed, max_tokens=160, max_answer_tokens=40)
    tokenizer = UnitTokenizer(byte_tokenizer())
    rows = made.sequences.items.lengths.argmax()[None]
    instances = made.users["sequential"].evaluate(rows, "sequential-1", "test")
    documents, _ = tokenized(instances, tokenizer, made.settings)
    assert int(documents.tokens.lengths) < 160
    kept = _items_of(documents, 0, tokenizer, made.catalogue)
    whole = [u.key for u in (*instances[0].prompt, *instances[0].answer) if u.entity_type == "item"]
    assert 2 <= len(kept) < len(whole)
    assert kept == whole[-len(kept) :]
    short = made.settings.model_copy(update={"max_answer_tokens": 5})
    with pytest.raises(DataError, match="entities are never cut"):
        tokenized(instances, tokenizer, short)


def test_of_long_lists_training_drops_wrong_candidates_last_of_all(reviewed: Tables) -> None:
    made = families(reviewed, num_negatives=6)
    tokenizer = UnitTokenizer(byte_tokenizer())
    task = made.users["sequential"]
    instances = [
        one
        for one in task.train(torch.arange(len(task)), epoch=0)
        if one.candidates and one.template.answer == "item" and "history" in one.template.slots
    ]
    lengths = {}
    for room in (400, 260, 190):
        own = made.settings.model_copy(update={"max_tokens": room, "max_answer_tokens": 40})
        found = tokenized(instances, tokenizer, own)[0]
        for row, one in enumerate(instances):
            kept = _items_of(found, row, tokenizer, made.catalogue)
            assert kept.count(one.item) == 2  # among the candidates, and as the answer
            past = past_of(one)
            lengths[room, row] = len(kept)
            if set(one.candidates) - set(kept):  # wrong ones go after all of the past
                assert not set(past) & set(kept)
    assert all(lengths[400, row] >= 8 for row in range(len(instances)))
    assert any(lengths[190, row] < 7 for row in range(len(instances)))


def test_items_of_a_past_are_predicted_from_what_stands_before_them(reviewed: Tables) -> None:
    made = families(reviewed)
    tokenizer = UnitTokenizer(byte_tokenizer())
    instances = [
        one
        for one in made.mixture().batch(torch.arange(200), epoch=0)
        if one.template.family == "sequential"
    ]
    documents, blanks = tokenized(instances, tokenizer, made.settings)
    own = PositionSettings()
    special = replace(SPECIAL, mask=300, sentence_mask=301, document_mask=302, start=303, end=304)
    told = told_items(documents, instances)
    plain, taught = (
        build_examples(
            documents, blanks, special, own, automaton_of(documents, own), predicted=predicted
        )
        for predicted in (None, told)
    )
    for name in ("tokens", "inter", "intra", "offsets", "prompt_lengths"):
        assert torch.equal(getattr(plain, name), getattr(taught, name))
    seen = set()
    for row, one in enumerate(instances):
        begin = int(taught.offsets[row])
        inputs, targets = (
            column[begin : begin + int(taught.prompt_lengths[row])].tolist()
            for column in (taught.tokens, taught.targets)
        )
        past = [unit for unit in one.prompt if unit.event >= 0 and unit.entity_type == "item"]
        listed = "candidates" in one.template.slots
        seen.add(listed)
        wanted = [] if listed else past
        assert targets.count(304) == len(wanted)
        at = [place for place, target in enumerate(targets) if target not in (IGNORE, 304)]
        assert [targets[place] for place in at] == [inputs[place + 1] for place in at]
        text = "".join(
            "|" if target == 304 else tokenizer.decode([target])
            for target in targets
            if target != IGNORE
        )
        assert text == "".join(f"{unit.surface}|" for unit in wanted)
    assert seen == {True, False}


def test_a_prompt_read_both_ways_predicts_no_past() -> None:
    tasks = TaskSettings(predict_past=True)
    assert RecsysllmConfig(tasks=tasks).tasks.predict_past
    with pytest.raises(ValidationError, match="predict_past: bidirectional attention"):
        RecsysllmConfig(tasks=tasks, backbone=DecoderSettings(bidirectional=True))

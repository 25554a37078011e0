"""Units are tokenized alone, truncation keeps entities whole, and the pool of entities."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from legos.errors import DataError
from legos.systems.recsysllm.automaton import EntityPool
from legos.systems.recsysllm.units import Unit, UnitTokenizer, document_of, entity, plain, sentences
from legos.systems.trie import NOWHERE
from tests.systems.recsysllm.small import SHARED, byte_tokenizer

TITLES = ["Snoopy (Colors May Vary)", "Gloom", "Gloom: Unhappy Homes", "Jake's: 4.5 oz. Cup"]
MERGES = [(")", ","), ("o", "o"), ("Ġ", "G")]


def _tokenizer() -> UnitTokenizer:
    return UnitTokenizer(byte_tokenizer(*MERGES))


def _document() -> list[Unit]:
    events: list[Unit] = []
    for key, title in enumerate(TITLES):
        events += [entity(title, "item", key, event=key), Unit(",", space=False, event=key)]
    return document_of(
        [[plain("name:"), entity("Ann", "user", 3), Unit(".", space=False)], events[:-1]]
    )


def test_units_are_tokenized_alone_and_round_trip() -> None:
    tokenizer, units = _tokenizer(), _document()
    documents = tokenizer.encode([units])
    joined = "".join(unit.surface for unit in units)
    assert joined == "name: Ann. " + ", ".join(TITLES)
    assert tokenizer.decode(documents.units.values.tolist()) == joined
    merged = tokenizer.fast.token_to_id("),")
    assert merged in tokenizer.fast.encode(joined).ids  # what joining would have done
    assert merged not in documents.units.values.tolist()
    assert documents.events[documents.is_entity].tolist() == [-1, 0, 1, 2, 3]


def test_every_entity_that_occurs_is_in_the_trie() -> None:
    tokenizer = _tokenizer()
    pool = EntityPool(tokenizer, {"item": TITLES, "user": ["a", "b", "c", "Ann"]})
    documents = tokenizer.encode([_document(), [entity("Gloom", "item", 1)]])
    nodes = pool.trie().find(documents.units.select(documents.is_entity.nonzero()[:, 0]))
    assert bool((nodes != NOWHERE).all())
    assert bool(pool.trie().is_end(nodes).all())
    assert pool.describe() == "8 of 1 to 24 tokens, mean 9.2; 0 surfaces shared"
    slot = pool.slot("item", space=True, keys=torch.tensor([1, 2]))
    assert sorted(slot.entities(slot.trie.find(pool.surfaces(
        "item", torch.tensor([2, 1]), space=True))).values.tolist()) == [1, 2]  # fmt: skip
    assert slot.trie.find(pool.surfaces("item", torch.tensor([1]), space=False)).tolist() == [
        NOWHERE
    ]
    assert slot.trie.find(pool.surfaces("item", torch.tensor([0]), space=True)).tolist() == [
        NOWHERE
    ]


def test_gpt2_merges_a_bracket_and_a_comma_unless_units_are_tokenized_alone() -> None:
    folder: Path = SHARED / "gpt2-tokenizer"
    if not folder.is_dir():
        pytest.skip("the tokenizer of GPT-2 is not here")
    from transformers import GPT2TokenizerFast

    base = GPT2TokenizerFast(str(folder / "vocab.json"), str(folder / "merges.txt"))
    tokenizer = UnitTokenizer(base.backend_tokenizer)
    units = [entity("Lil Snoopy (Colors May Vary)", "item", 0), Unit(",", space=False)]
    alone = tokenizer.encode([units]).units
    joined = tokenizer.encode_texts([" Lil Snoopy (Colors May Vary),"]).values.tolist()
    assert tokenizer.fast.id_to_token(joined[-1]) == "),"
    assert alone.values.tolist()[-2:] == tokenizer.encode_texts([")", ","]).values.tolist()


def test_truncation_drops_the_oldest_events_whole_and_never_cuts_an_entity() -> None:
    documents = _tokenizer().encode([_document(), document_of([[Unit("short")]])])
    whole = documents.tokens.lengths.tolist()
    for limit in range(45, whole[0] + 1):
        cut = documents.truncated(limit)
        assert cut.tokens.lengths[0] <= limit
        assert cut.tokens.lengths[1] == whole[1]
        kept = cut.events[:-1][cut.is_entity[:-1]].tolist()
        assert kept == [-1, *[0, 1, 2, 3][5 - len(kept) :]]  # the user and the latest items
        lengths = cut.units.lengths[cut.is_entity].tolist()
        assert set(lengths) <= set(documents.units.lengths[documents.is_entity].tolist())
    with pytest.raises(DataError, match="entities are never cut"):
        documents.truncated(5)


def test_a_long_text_loses_its_end_and_then_ends_no_sentence() -> None:
    tokenizer = _tokenizer()
    documents = tokenizer.encode([[entity("Gloom", "item", 1), Unit("a very long text.")]])
    cut = documents.truncated(12)
    assert cut.tokens.lengths.tolist() == [12]
    assert cut.units.lengths[0] == documents.units.lengths[0]
    assert cut.ends_sentence.tolist() == [False, False]


def test_sentences_end_at_marks_before_blanks_and_never_inside_entities() -> None:
    text = 'It is "nice!" 4.5 oz; fine.\nNext 好。再'
    assert "".join(sentences(text)) == text
    assert sentences(text) == ['It is "nice!"', " 4.5 oz;", " fine.\n", "Next 好。", "再"]
    documents = _tokenizer().encode([[Unit(text), entity("Jake's: 4.5 oz. Cup.", "item", 3)]])
    assert documents.ends_sentence.tolist() == [True, True, True, True, False, False]
    assert int(documents.is_entity.sum()) == 1


def test_entities_never_touch_and_the_first_unit_has_no_blank_before_it() -> None:
    units = document_of([[entity("A", "item", 0)], [entity("B", "item", 1)]])
    assert [unit.surface for unit in units] == ["A", ",", " B"]


def test_what_a_user_does_wrong_is_told() -> None:
    with pytest.raises(DataError, match="item 1: an entity without text"):
        EntityPool(_tokenizer(), {"item": ["a", " "]})

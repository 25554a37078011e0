"""Vocabulary tables: a lookup per distinct token is the lookup of every occurrence."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from legos.blocks.embedding import FieldEmbeddings, VocabularyEmbedding, module_key
from tests.bricks import quick, ragged, random_store

SIZE, HIDDEN, WIDTH = 12, 4, 6


def pretrained(*, frozen: bool = True, width: int = WIDTH) -> VocabularyEmbedding:
    table = torch.randn(SIZE, width, dtype=torch.float64)
    return VocabularyEmbedding(size=SIZE, hidden_size=HIDDEN, table=table, frozen=frozen).double()


@quick
@given(st.lists(st.lists(st.integers(0, SIZE - 1), max_size=5), min_size=1, max_size=6))
def test_packed_vectors_are_those_of_a_direct_lookup(rows: list[list[int]]) -> None:
    tokens, embedding = ragged(rows), pretrained()
    packed = embedding.packed(tokens)
    direct = embedding.project(embedding.table[tokens.values])  # every occurrence projected
    torch.testing.assert_close(packed.vectors, direct, rtol=0, atol=1e-12)
    assert packed.distinct.shape[0] == len({token for row in rows for token in row})
    assert packed.rows.tolist() == tokens.rows.tolist()
    assert torch.equal(packed.offsets, tokens.offsets)


@pytest.mark.parametrize("frozen", [True, False])
def test_gradients_equal_those_of_projecting_every_occurrence(frozen: bool) -> None:
    tokens, embedding = ragged([[3, 3, 1], [], [1, 7, 3]]), pretrained(frozen=frozen)
    weights = torch.randn(6, HIDDEN, dtype=torch.float64)
    trained = [parameter for parameter in embedding.parameters() if parameter.requires_grad]
    assert len(trained) == (2 if frozen else 3)
    folded = torch.autograd.grad((embedding.packed(tokens).vectors * weights).sum(), trained)
    direct = embedding.project(embedding.table[tokens.values])
    unfolded = torch.autograd.grad((direct * weights).sum(), trained)
    for found, expected in zip(folded, unfolded, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_ids_are_looked_up_as_they_come() -> None:
    embedding = pretrained()
    ids = torch.tensor([4, 0, 4])
    torch.testing.assert_close(embedding(ids), embedding.project(embedding.table[ids]))


def test_a_table_of_the_hidden_size_is_not_projected() -> None:
    embedding = pretrained(width=HIDDEN)
    assert isinstance(embedding.project, nn.Identity)
    ids = torch.tensor([2, 9])
    assert torch.equal(embedding(ids), embedding.table[ids])


def test_random_vectors_are_never_frozen() -> None:
    embedding = VocabularyEmbedding(size=1000, hidden_size=64, frozen=True)
    assert embedding.table.requires_grad
    assert float(embedding.table.detach().std()) == pytest.approx(0.1, rel=0.05)


def test_dropout_takes_part_in_training_alone() -> None:
    embedding = VocabularyEmbedding(size=SIZE, hidden_size=50, dropout=0.5)
    ids = torch.arange(SIZE)
    torch.manual_seed(0)
    dropped = embedding.train()(ids)
    assert 0.4 < float((dropped == 0).float().mean()) < 0.6
    assert torch.equal(embedding.eval()(ids), embedding.table)


def test_fields_are_told_apart_by_kind_in_the_order_of_the_yaml() -> None:
    store = random_store(fields=("abstract", "category", "title"))
    vocabularies = {
        name: VocabularyEmbedding(size=50, hidden_size=HIDDEN) for name in ("words", "category")
    }
    embeddings = FieldEmbeddings(fields=store.fields, vocabularies=vocabularies, hidden_size=HIDDEN)
    assert embeddings.text_fields == ["abstract", "title"]
    assert embeddings.category_fields == ["category"]
    items = store.batch(torch.tensor([5, 9, 5]))
    title = items.texts["title"]
    assert torch.equal(
        embeddings.text("title", items).vectors, vocabularies["words"].table[title.values]
    )
    assert torch.equal(
        embeddings.category("category", items),
        vocabularies["category"].table[items.categories["category"]],
    )
    tokens = embeddings.tokens(items)
    words, categories = (vocabularies[name].table for name in ("words", "category"))
    for row, found in enumerate(tokens.vectors.split(tokens.offsets.diff().tolist())):
        parts = [items.texts[name].select(torch.tensor([row])) for name in ("abstract", "title")]
        texts = torch.cat([words[part.values] for part in parts])
        assert torch.equal(
            found, torch.cat([texts, categories[items.categories["category"][[row]]]])
        )


@pytest.mark.parametrize("name", ["title", "type", "items", "v1.5", "training", "a.items", ""])
def test_any_name_becomes_a_key_that_torch_takes(name: str) -> None:
    key = module_key(name)
    if name:
        modules = nn.ModuleDict({key: nn.Identity()})
        assert list(modules) == [key]
    assert (key == name) == (name in ("title", ""))

"""What a language model reads of an item: the same tokens as the whole text, cut by field."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from legos.data.ragged import join_rows
from legos.errors import ConfigError
from legos.lm.load import LanguageModel
from legos.lm.locate import packaged
from legos.lm.tokenizer import TemplateField, encode_items, special_tokens
from tests.bricks import lists, quick, ragged
from tests.lm.families import smollm2

MODELS = pytest.mark.parametrize("name", ["minilm", "smollm2"])  # WordPiece; byte-level pieces
TITLES = ["Twelfth Grade Kills", "the unbearable lightness of being", "Émile, or on education"]
GENRES = ["Vampires", "Novel", "Treatise"]


@cache
def tokenizer(name: str) -> object:
    model = smollm2() if name == "smollm2" else LanguageModel(packaged(name))
    return model.tokenizer


@MODELS
def test_pieces_are_tokenized_as_in_the_whole_text(name: str) -> None:
    fields = [
        TemplateField("title", TITLES, "title:", None),
        TemplateField("genre", GENRES, "genre:", None),
    ]
    read = tokenizer(name)
    found = encode_items(read, fields, opening="book:")
    for tokens, title, genre in zip(lists(found), TITLES, GENRES, strict=True):
        assert tokens == read.encode(f"book: title: {title} genre: {genre}").ids  # type: ignore[attr-defined]


@MODELS
def test_without_prompts_only_the_texts_are_read(name: str) -> None:
    read = tokenizer(name)
    found = encode_items(read, [TemplateField("title", TITLES, "", None)])
    assert lists(found) == [read.encode(title).ids for title in TITLES]  # type: ignore[attr-defined]


def test_a_length_counts_the_fields_own_tokens_and_keeps_the_end_mark() -> None:
    read = tokenizer("minilm")
    before, after = special_tokens(read)
    found = lists(encode_items(read, [TemplateField("title", TITLES, "title:", 2)]))
    for tokens, title in zip(found, TITLES, strict=True):
        inside = read.encode(title, add_special_tokens=False).ids[:2]  # type: ignore[attr-defined]
        prompt = read.encode("title:", add_special_tokens=False).ids  # type: ignore[attr-defined]
        assert tokens == [*before, *prompt, *inside, *after]


def test_an_empty_field_is_left_out_with_its_prompt() -> None:
    read = tokenizer("minilm")
    fields = [
        TemplateField("title", ["a", "b"], "title:", None),
        TemplateField("genre", ["", "c"], "genre:", None),
    ]
    found = lists(encode_items(read, fields))
    assert found[0] == read.encode("title: a").ids  # type: ignore[attr-defined]
    assert found[1] == read.encode("title: b genre: c").ids  # type: ignore[attr-defined]


def test_an_item_longer_than_the_model_reads_is_refused() -> None:
    fields = [TemplateField("title", ["short", "word " * 30], "", None)]
    with pytest.raises(
        ConfigError, match=r"item number 1 has 32 tokens.*at most 16.*title \(all\)"
    ):
        encode_items(tokenizer("minilm"), fields, longest=16)


@quick
@given(
    st.integers(1, 4).flatmap(
        lambda count: st.lists(
            st.lists(st.lists(st.integers(0, 9), max_size=4), min_size=count, max_size=count),
            min_size=1,
            max_size=4,
        )
    )
)
def test_segments_follow_each_other_in_every_row(segments: list[list[list[int]]]) -> None:
    found = join_rows([ragged(segment) for segment in segments])
    expected = [[*itertools.chain(*rows)] for rows in zip(*segments, strict=True)]
    assert lists(found) == expected
    assert found.values.dtype == torch.int64

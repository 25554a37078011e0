from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from legos.errors import ConfigError, DataError
from legos.lm.locate import model_folder, packaged
from legos.lm.settings import LanguageModelSource
from legos.lm.token_vectors import (
    align_token_vectors,
    language_model_token_vectors,
    text_file_token_vectors,
)
from tests.lm.families import small_model


def test_packaged_table_is_that_of_the_model_itself() -> None:
    transformers = pytest.importorskip("transformers")
    folder = model_folder("minilm")
    found = language_model_token_vectors(packaged("minilm"))
    model = transformers.AutoModel.from_pretrained(str(folder), local_files_only=True)
    assert torch.equal(found.vectors, model.get_input_embeddings().weight)
    assert (len(found.tokens), found.tokens[101], found.tokens[2739]) == (30_522, "[CLS]", "news")


def test_damaged_folders_are_named(tmp_path: Path) -> None:
    model: Any = small_model("bert")
    model.save_pretrained(tmp_path)
    source = LanguageModelSource.model_validate(str(tmp_path))
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"tokenizer\.json: not a tokenizer with a vocabulary"):
        language_model_token_vectors(source)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-8])
    with pytest.raises(ConfigError, match=r"model\.safetensors: cut short or damaged"):
        language_model_token_vectors(source)
    weights.unlink()
    with pytest.raises(ConfigError, match=r"no model\.safetensors and no .*index\.json here"):
        language_model_token_vectors(source)


def test_missing_model_says_how_to_get_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"'minilmm': neither .* did you mean 'minilm'\?"):
        model_folder("minilmm")
    (tmp_path / "config.json").write_text("{}")
    assert model_folder(str(tmp_path)) == tmp_path


def test_text_file_is_read_plain_or_gzipped_with_or_without_a_header(tmp_path: Path) -> None:
    lines = "news 1 2\nbook 3 4\nnews 9 9\n"
    (tmp_path / "plain.txt").write_text(lines)
    (tmp_path / "header.txt").write_text("2 2\n" + lines)
    with gzip.open(tmp_path / "packed.txt.gz", "wt") as file:
        file.write(lines)
    for name in ("plain.txt", "header.txt", "packed.txt.gz"):
        found = text_file_token_vectors(tmp_path / name)
        assert found.tokens == ["news", "book"]
        assert found.vectors.tolist() == [[1, 2], [3, 4]]
        assert found.repeated == 1


def test_words_may_hold_spaces_and_lines_end_in_one(tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_bytes(b"news 1 2 \r\n. . 3 4\nto me@there.org 5 6\n")
    found = text_file_token_vectors(tmp_path / "v.txt")
    assert found.tokens == ["news", ". .", "to me@there.org"]
    assert found.vectors.tolist() == [[1, 2], [3, 4], [5, 6]]


@pytest.mark.parametrize(
    ("content", "tokens"),
    [
        ("\ufeffnews 1 2\nbook 3 4\n", ["news", "book"]),
        ("\ufeff2 2\nnews 1 2\nbook 3 4\n", ["news", "book"]),
        (". . 1 2\nnews 3 4\n", [". .", "news"]),
        ("3 2\n. . 1 2\n1 3/4 3 4\nof 5 6\n", [". .", "1 3/4", "of"]),
        ("nan 1 2\n1990 3 4\n", ["nan", "1990"]),
        ("a 1 2\n.\u00a0. 3 4\nx\u2028y 5 6\n", ["a", ".\u00a0.", "x\u2028y"]),
        ("news 1 2\nbook 3 4\n\n\n", ["news", "book"]),
    ],
)
def test_a_word_is_told_from_its_numbers(content: str, tokens: list[str], tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text(content, encoding="utf-8")
    found = text_file_token_vectors(tmp_path / "v.txt")
    assert found.tokens == tokens
    assert found.vectors[:2].tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"news 1 2\nbook 3\n", r":2: 1 numbers after 'book', expected 2"),
        (b"news 1 2\nbook 3 4 5\n", r":2: 3 numbers after 'book', expected 2"),
        (b"news 1 2\nbook 3 x\n", r":2: could not convert"),
        (b"news 1 2\nbook nan 4\n", r":2: a number of 'book' is not finite"),
        (b"news\n", r":1: 0 numbers after 'news'; expected a word and its numbers"),
        (b"news 1 2\n\xff\xfe 1 2\n", r":2: not UTF-8"),
        (b"", r": empty, expected a word"),
        (b"\xef\xbb\xbf", r": empty, expected a word"),
        (b"2 000 1 2\nnews 1 2\n", r":2: 2 numbers after 'news', expected 3, as in line 1"),
        (b"news 1 2\n2 000 1 2\n", r":2: 3 numbers .* a word with spaces \('2 000'\) or a number"),
        (b"news 1 2\n 3 4\n", r":2: no word, or two spaces in a row"),
        (b"news  1 2\nbook 3 4\n", r":1: no word, or two spaces in a row"),
        (b"news\t1\t2\n", r":1: .*separated by TABs"),
        (b"news\t1 2\n", r":1: .*TABs"),
        (b"news 1\t2 3\n", r":1: .*TABs"),
        (b"news 1_0 2\n", r":1: .*other signs .* in its numbers"),
        (b"the 1_0 2\ncat 3 4\n", r":1: .*other signs"),
        ("news 1 \u0662\n".encode(), r":1: .*other signs"),
        (b"the 1,0 2\ncat 3 4\n", r":2: 2 numbers after 'cat', expected 1"),
        (b"the 1,0 2\n", r":1: a word with spaces \('the 1,0'\) and 1 numbers, or a shorter"),
        (b"news 1 2\n\nbook 3 4\n", r":2: a blank line"),
        (b"400 2\nnews 1 2\n", r":1: the header says 400 words of 2 numbers, 1 lines follow"),
        (b"1 2\nnews 1 2\nbook 3 4\n", r":1: the header says 1 words .* 2 lines follow"),
        (b"7 3\n8 4\n", r":2: 1 numbers after '8', expected 3 \(by the header in line 1\)"),
        (b"news 1e39 2\n", r":1: a number of 'news' is not finite"),
        (b"PK\x03\x04abc", r":1: a zip archive"),
        (b"\x1f\x8b\x08\x00", r":1: gzipped; give it a name"),
        (b"2 2\n\xff\xfe\x00", r":2: not UTF-8 .*word2vec's binary form"),
    ],
)
def test_bad_text_file_is_refused_with_its_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "vectors.txt"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        text_file_token_vectors(path)


def test_truncated_gzip_and_missing_file_are_refused(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(b"w%d 1 2 3\n" % i for i in range(5000)))
    (tmp_path / "cut.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="cut short after line"):
        text_file_token_vectors(tmp_path / "cut.gz")
    (tmp_path / "damaged.gz").write_bytes(whole[:20] + b"\xff" * 40 + whole[60:])
    with pytest.raises(DataError, match=r"damaged\.gz: incomplete gzip file"):
        text_file_token_vectors(tmp_path / "damaged.gz")
    with pytest.raises(DataError, match="no such file"):
        text_file_token_vectors(tmp_path / "absent.txt")


def test_vectors_are_put_in_the_order_of_the_vocabulary() -> None:
    vectors = torch.tensor([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]])
    aligned, found = align_token_vectors(["a", "b", "c"], vectors, ["c", "new", "a"], seed=1)
    assert aligned[0].tolist() == [3, 3]
    assert aligned[2].tolist() == [1, 1]
    assert found == 2
    again, _ = align_token_vectors(["a", "b", "c"], vectors, ["c", "new", "a"], seed=1)
    assert torch.equal(again, aligned)
    other, _ = align_token_vectors(["a", "b", "c"], vectors, ["c", "new", "a"], seed=2)
    assert not torch.equal(other[1], aligned[1])


def test_random_rows_are_spread_like_the_table() -> None:
    table = torch.randn(500, 40, generator=torch.Generator().manual_seed(0)) * 0.3 + 2
    words = [str(i) for i in range(500)]
    aligned, _ = align_token_vectors(words, table, [f"new {i}" for i in range(400)], seed=3)
    assert np.isclose(float(aligned.std()), 0.3, atol=0.01)
    assert np.isclose(float(aligned.mean()), 2, atol=0.01)

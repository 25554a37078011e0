"""Names tokenized by their words have the tokens of the whole names, with every kind of cutter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from legos.lm.by_words import name_tokens, splits_at_blanks
from legos.lm.tokenizer import literal_copy, token_ids

LETTERS = "abcdeAB123.,'s(_)é好¨ ́️ß½"
UNKNOWN = "?"
NAMES = st.lists(st.text(LETTERS + " ", max_size=20), max_size=12).map(
    lambda texts: [clean for text in texts if (clean := " ".join(text.split()))]
)
LLAMA_3 = Regex(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|"
    r"\s*[\r\n]+|\s+(?!\S)|\s+"
)


def _bpe(pre_tokenizer: Any, normalizer: Any = None) -> Tokenizer:
    """Byte-level BPE that has merged blanks, brackets and digits with what stands beside them."""
    vocabulary = {letter: row for row, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}
    merges = [("Ġ", "a"), ("a", "Ġ"), ("Ġa", "b"), ("'", "s"), (")", ","), ("1", "2"), ("Ġ", "1")]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    return tokenizer


def _marked(prepend: str) -> Tokenizer:
    """SentencePiece's BPE, which marks the blank before a word."""
    words = ["?", *dict.fromkeys("▁" + LETTERS + "abcd"), "▁a", "▁ab", "a▁"]
    vocabulary = {word: row for row, word in enumerate(dict.fromkeys(words))}
    merges = [("▁", "a"), ("▁a", "b"), ("a", "▁")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend)
    return tokenizer


def _word_pieces() -> Tokenizer:
    words = ["?", *LETTERS.lower(), *(f"##{letter}" for letter in LETTERS.lower()), "ab", "##cd"]
    vocabulary = {word: row for row, word in enumerate(dict.fromkeys(words))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=UNKNOWN))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def _with(word: str, **how: Any) -> Callable[[], Tokenizer]:
    def made() -> Tokenizer:
        tokenizer = _bpe(pre_tokenizers.ByteLevel(add_prefix_space=False))
        tokenizer.add_tokens([AddedToken(word, **how)])
        return tokenizer

    return made


def _sequence(*steps: Any) -> Callable[[], Tokenizer]:
    return lambda: _bpe(pre_tokenizers.Sequence(list(steps)))


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False)
BARE_BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
BY_WORDS = {
    "gpt2": _sequence(BYTES),
    "smollm2": _sequence(pre_tokenizers.Digits(individual_digits=True), BYTES),
    "llama3": _sequence(pre_tokenizers.Split(LLAMA_3, "isolated"), BARE_BYTES),
    "punctuation": _sequence(pre_tokenizers.Punctuation(), BYTES),
    "composed": lambda: _bpe(BYTES, normalizers.NFC()),
    "bert": _word_pieces,
    "marked": lambda: _marked("always"),
    "marked-inside": lambda: _marked("never"),
    "added": _with("ab"),
}
WHOLE = {
    "no cutter": lambda: _bpe(BARE_BYTES),
    "digits alone": _sequence(pre_tokenizers.Digits(), BARE_BYTES),
    "prefix": lambda: _bpe(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "marked-first": lambda: _marked("first"),
    "two words": _with("a b"),
    "stripped": _with("ab", lstrip=True),
    "blanks made": lambda: _bpe(BYTES, normalizers.NFKC()),
}


@pytest.mark.parametrize("kind", [*BY_WORDS, *WHOLE])
def test_tokens_of_names_are_those_of_whole_names(kind: str) -> None:
    tokenizer = literal_copy((BY_WORDS | WHOLE)[kind]())
    assert splits_at_blanks(tokenizer) == (kind in BY_WORDS)

    @settings(max_examples=150, deadline=None)
    @given(NAMES)
    def same(names: list[str]) -> None:
        found = name_tokens(tokenizer, names)
        for rows, lead in ((found.bare, ""), (found.spaced, " ")):
            wanted = token_ids(tokenizer, [lead + name for name in names])
            assert [rows.row(at).tolist() for at in range(len(rows))] == [
                w.tolist() for w in wanted
            ]
            assert rows.values.dtype == "int32"

    same()


def test_many_pages_of_words_keep_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("legos.lm.by_words._PAGE", 3)
    tokenizer = literal_copy(_bpe(BYTES))
    names = [f"a{number} ab ({number % 5})" for number in range(40)]
    found = name_tokens(tokenizer, names).spaced
    wanted = token_ids(tokenizer, [f" {name}" for name in names])
    assert [found.row(at).tolist() for at in range(40)] == [each.tolist() for each in wanted]

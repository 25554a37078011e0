"""Which tokenizer cuts the texts: one that knows their language, and has token vectors here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from legos.data.tokenizers import MOST_UNKNOWN
from process.raw import TokenizerSpec
from process.tokenization import make_tokenizer

ENGLISH = TokenizerSpec("bert", "minilm")
BYTES = TokenizerSpec("llama", "smollm2")
MULTILINGUAL = "google-bert/bert-base-multilingual-cased or intfloat/multilingual-e5-small"
_SAMPLE = 20_000  # texts a field
_UNKNOWN = ("[UNK]", "<unk>")


@dataclass(frozen=True)
class Coverage:
    """How well a tokenizer knows a field.

    Attributes:
        unknown: % of the tokens that stand for what it does not know.
        tokens: of a text that is not empty, in the mean.
    """

    unknown: float
    tokens: float


@dataclass(frozen=True)
class Choice:
    """The tokenizers of a data set.

    Attributes:
        specs: them.
        coverage: tokenizer -> field -> how well it knows it.
        note: why it is another one than the usual.
    """

    specs: list[TokenizerSpec]
    coverage: dict[str, dict[str, Coverage]]
    note: str = ""


def choose_tokenizers(
    texts: Mapping[str, Sequence[str]], asked: Sequence[TokenizerSpec] | None
) -> Choice:
    """Measure tokenizers on texts; without one that is asked for take one that knows them.

    Args:
        texts: field -> its texts.
        asked: tokenizers that the user names; None: the packaged BERT's, or the packaged one of
            bytes where BERT's knows too little.
    """
    if not texts:
        return Choice(list(asked or [ENGLISH]), {})
    filled = {name: [text for text in column if text] for name, column in texts.items()}
    specs = list(asked) if asked is not None else [ENGLISH]
    coverage = {spec.name: _coverage(spec, filled) for spec in specs}
    bad = [
        f"{field}: {found.unknown:.1f} % of its tokens are unknown to {spec.name} ({spec.source})"
        for spec in specs
        for field, found in coverage[spec.name].items()
        if found.unknown > MOST_UNKNOWN
    ]
    if not bad:
        return Choice(specs, coverage)
    if asked is not None:
        note = (
            f"{'; '.join(bad)}. --tokenizer auto takes {BYTES.name}={BYTES.source}, which knows "
            f"every script; of several languages: a tokenizer of {MULTILINGUAL}"
        )
        return Choice(specs, coverage, note)
    coverage[BYTES.name] = _coverage(BYTES, filled)
    note = (
        f"{'; '.join(bad)}, so {BYTES.name}={BYTES.source} cuts the texts: it works on bytes and "
        f"knows every script. A model of several languages knows their words: download "
        f"{MULTILINGUAL} and give --tokenizer multi=FOLDER"
    )
    return Choice([BYTES], coverage, note)


def _coverage(spec: TokenizerSpec, texts: Mapping[str, Sequence[str]]) -> dict[str, Coverage]:
    made = make_tokenizer(spec, list(texts.values()))
    unknown = [made.vocabulary.index(name) for name in _UNKNOWN if name in made.vocabulary]
    found = {}
    for field, column in texts.items():
        step = max(1, len(column) // _SAMPLE)
        tokens = made.encode(column[::step], f"a sample of {field}")
        share = float(np.isin(tokens.values, unknown).mean()) if len(tokens.values) else 0.0
        mean = float(tokens.lengths.mean()) if len(tokens) else 0.0
        found[field] = Coverage(round(100 * share, 2), round(mean, 1))
    return found

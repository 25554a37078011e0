"""Whether the packaged English sentence encoder knows the language of a catalogue."""

from __future__ import annotations

import numpy as np

from legos.data.manifest import WORDS
from legos.data.tables import Columns
from legos.data.tokenizers import MOST_UNKNOWN

MOST_PIECES = 33.0
"""Percent of the tokens that continue a word, from which on the words are not English: 5 to 20 in
English titles and descriptions, 47 and 54 in German ones."""
_ENGLISH_WORDS = 30_522  # entries of BERT's uncased English vocabulary, which MiniLM has
_UNKNOWN, _CONTINUES = "[UNK]", "##"


def minilm_knows(columns: Columns) -> bool:
    """Whether MiniLM's tokens are words of the texts: hardly any unknown, few mere pieces.

    Tables without tokens of its vocabulary are taken to be so unless their only tokenizers are
    others than its own or plain words, since another tokenizer was then chosen for a reason.
    """
    tokenizers = columns.manifest["tokenizers"]
    sizes = {name: columns.manifest["vocabularies"][name]["size"] for name in tokenizers}
    english = [
        name
        for name, made in tokenizers.items()
        if made["source"] == "minilm" or sizes[name] == _ENGLISH_WORDS
    ]
    if not english:
        return all(made["source"] == WORDS for made in tokenizers.values())
    entries = columns.vocabulary(english[0])
    unknown = np.array([entry == _UNKNOWN for entry in entries])
    pieces = np.array([entry.startswith(_CONTINUES) for entry in entries])
    for name, column in columns.manifest["tables"]["items"]["columns"].items():
        if column["kind"] != "list" or column["vocabulary"] != english[0]:
            continue
        tokens = columns.lists("items", name).values
        if len(tokens) and (
            100 * unknown[tokens].mean() > MOST_UNKNOWN or 100 * pieces[tokens].mean() > MOST_PIECES
        ):
            return False
    return True

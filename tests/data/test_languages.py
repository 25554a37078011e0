"""Whether MiniLM knows a catalogue's language, by the tokens that its texts have."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from legos.data.languages import minilm_knows

ENTRIES = ["[UNK]", "##er", "kettle"]


def columns(tokens: list[int], source: str = "minilm", size: int = 3) -> Any:
    items = {"title@bert": {"kind": "list", "vocabulary": "bert"}, "brand": {"kind": "scalar"}}
    return SimpleNamespace(
        manifest={
            "tokenizers": {"bert": {"source": source}},
            "vocabularies": {"bert": {"size": size}},
            "tables": {"items": {"columns": items}},
        },
        vocabulary=lambda name: ENTRIES,
        lists=lambda table, name: SimpleNamespace(values=np.array(tokens, dtype=np.int32)),
    )


@pytest.mark.parametrize(
    ("found", "known"),
    [
        (columns([0] * 4 + [2] * 96), True),
        (columns([0] * 6 + [2] * 94), False),  # unknown
        (columns([1] * 20 + [2] * 80), True),  # English
        (columns([1] * 47 + [2] * 53), False),  # German
        (columns([]), True),
        (columns([2], "words"), True),
        (columns([2], "smollm2"), False),  # chosen where MiniLM's knows too little
        (columns([2], "unitok", 30_522), True),  # BERT's English vocabulary under another name
        (columns([0], "unitok", 30_522), False),
    ],
)
def test_minilm_knows_english(found: Any, known: bool) -> None:
    assert minilm_knows(found) is known

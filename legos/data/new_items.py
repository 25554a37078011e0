"""Items that tables do not have, in the tables' own vocabularies: what a trained model reads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from legos.data.items import FieldChoice, ItemStore
from legos.data.ragged import Ragged
from legos.data.tables import Tables
from legos.data.tokenizers import UNKNOWN, load_tokenizer


@dataclass(frozen=True)
class NewItems:
    """Items by what they say.

    Attributes:
        ids: raw ids, all different and none of them in the tables.
        texts: by text or category field of the tables what each item has there; "" where unknown.
        numbers: by number field of the tables ``(n,)`` float32; NaN where unknown.
    """

    ids: Sequence[str]
    texts: Mapping[str, Sequence[str]]
    numbers: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    def store(self, tables: Tables, choices: Iterable[FieldChoice], known: ItemStore) -> ItemStore:
        """What bricks read of these items, on the CPU.

        Texts are cut by the tables' own tokenizers, to the lengths of the known items; a category
        that the tables do not know is the unknown one.

        Args:
            tables: whose vocabularies and tokenizers are read.
            choices: the fields of the data YAML.
            known: the items of the tables.

        Raises:
            DataError: the tables have no file of a tokenizer.
        """
        texts: dict[str, Ragged] = {}
        categories: dict[str, torch.Tensor] = {}
        numbers: dict[str, torch.Tensor] = {}
        for choice in choices:
            column, _, tokenizer = choice.column.partition("@")
            if choice.number is not None:
                unknown = np.full(len(self), np.nan, np.float32)
                values = np.asarray(self.numbers.get(column, unknown), np.float32)
                numbers[choice.name] = torch.from_numpy(values)
            elif known.fields[choice.name].is_text:
                made = load_tokenizer(tables.folder, tables.manifest, tokenizer)
                tokens = made.encode(self.texts[column], column)
                kept = tokens.tensors().head(known.fields[choice.name].length)
                texts[choice.name] = Ragged(kept.values.long(), kept.offsets)
            else:
                entries = tables.vocabulary(known.fields[choice.name].vocabulary)
                rows = {entry: row for row, entry in enumerate(entries)}
                found = [rows.get(text, rows.get(UNKNOWN, 0)) for text in self.texts[column]]
                categories[choice.name] = torch.tensor(found, dtype=torch.int64)
        return ItemStore(
            fields=known.fields,
            texts=texts,
            categories=categories,
            num_items=len(self),
            numbers=numbers,
        )

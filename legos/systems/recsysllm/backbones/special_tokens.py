"""The tokens of blank infilling, by id."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from legos.errors import ConfigError


@dataclass(frozen=True)
class SpecialTokens:
    """Ids of a backbone.

    Attributes:
        mask: [MASK], a short blank.
        sentence_mask: [sMASK], a sentence.
        document_mask: [gMASK], one long blank.
        start: [START], before what fills a blank.
        end: [END], the target after it; it is never an input.
        pad: any id; masked everywhere.
        cls: [CLS], before every example; None where the backbone has none.
    """

    mask: int
    sentence_mask: int
    document_mask: int
    start: int
    end: int
    pad: int
    cls: int | None = None

    def of_levels(self, levels: Tensor) -> Tensor:
        """The mask token of each level of masking (``positions.masking``): any shape, int64."""
        masks = [self.mask, self.sentence_mask, self.document_mask]
        return torch.tensor(masks, device=levels.device)[levels]

    def is_mask(self, tokens: Tensor) -> Tensor:
        """Which tokens are masks: bool of the same shape."""
        return (
            (tokens == self.mask)
            | (tokens == self.sentence_mask)
            | (tokens == self.document_mask)
        )  # fmt: skip

    def needed_cls(self) -> int:
        """[CLS].

        Raises:
            ConfigError: the backbone has none.
        """
        if self.cls is None:
            raise ConfigError("prepend_cls: this backbone has no [CLS]")
        return self.cls


def appended(vocabulary: int, *, pad: int = 0) -> SpecialTokens:
    """Five tokens behind the words of a decoder that knows no blanks."""
    return SpecialTokens(
        mask=vocabulary,
        sentence_mask=vocabulary + 1,
        document_mask=vocabulary + 2,
        start=vocabulary + 3,
        end=vocabulary + 4,
        pad=pad,
    )


def appended_with_cls(vocabulary: int) -> SpecialTokens:
    """The same and [CLS], behind the words of a tokenizer whose model has random weights."""
    return replace(appended(vocabulary), cls=vocabulary + NUM_APPENDED)


NUM_APPENDED = 5

GLM_GPT2 = SpecialTokens(
    mask=50260, sentence_mask=50264, document_mask=50263, start=50257, end=50258, pad=50256,
    cls=50259,
)  # fmt: skip
"""Of GLM-2B and GLM-10B: GPT-2's 50,257 tokens, then those of GLM's tokenizer."""

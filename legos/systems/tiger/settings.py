"""Settings of TIGER. Torch is not imported here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from legos.config.model_schema import SystemModel, register_system
from legos.lm.settings import LanguageModelSource
from legos.settings import (
    CONTENT,
    Count,
    Dropout,
    Natural,
    OnlyWith,
    Positive,
    Settings,
)

_BY_RQ_VAE = OnlyWith("method", ("rq_vae",))


class CodeSettings(Settings):
    """How vectors of texts become semantic codes."""

    added: ClassVar[frozenset[str]] = frozenset({"optimizer"})
    method: Literal["kmeans", "rq_vae"] = "kmeans"
    """`kmeans`: residual k-means of the vectors as they are; `rq_vae`: an autoencoder learns with
    the codebooks, which start from k-means (the paper)."""
    levels: Count = 3
    """Codes of an item before the one that tells items of equal codes apart (paper)."""
    size: Annotated[int, Field(ge=2)] = 256
    """Different codes of a level (paper); items, where they are fewer."""
    iterations: Count = 50
    """Of k-means a level, at most."""
    hidden: Annotated[tuple[Count, ...], _BY_RQ_VAE] = (512, 256, 128)
    """Widths of the encoder's hidden layers (paper); those of the decoder, reversed."""
    width: Annotated[Count, _BY_RQ_VAE] = 32
    """Of what is quantised (paper)."""
    commitment: Annotated[Positive, _BY_RQ_VAE] = 0.25
    """Weight of the loss that keeps the encoder near its codes (paper: beta)."""
    epochs: Annotated[Count, _BY_RQ_VAE] = 200
    """Passes over the items (20,000 in the paper)."""
    batch_size: Annotated[Count, _BY_RQ_VAE] = 1024
    """Items of a step (paper)."""
    optimizer: Annotated[Literal["adam", "adagrad"], _BY_RQ_VAE] = "adam"
    """Of the RQ-VAE; the paper: Adagrad."""
    lr: Annotated[Positive, _BY_RQ_VAE] = 0.001
    """Of that optimizer (0.4 in the paper)."""


@register_system(
    about="TIGER: writes the next item as semantic codes, by an exact search (NeurIPS 2023)",
    runs="legos.systems.tiger.system:TigerSystem",
    shows="legos.systems.tiger.system:show",
)
class TigerModel(SystemModel):
    """Generative retrieval: an encoder reads the codes of a history, a decoder writes the next."""

    added: ClassVar[frozenset[str]] = frozenset({"valid_users"})  # it used to decide no weights
    training: ClassVar[Mapping[str, Any]] = {"lr": 0.001, "batch_size": 256}

    system: Literal["tiger"] = "tiger"
    model: Annotated[LanguageModelSource | None, CONTENT] = None
    """Whose vectors of texts become codes; null: all-MiniLM-L6-v2, or words in languages that it
    does not know."""
    codes: CodeSettings = CodeSettings()
    reads: Literal["causal", "both_ways"] = "causal"
    """`causal`: the encoder sees what comes before, so that one reading of a sequence serves all
    its next items; `both_ways`: it reads the history of every next item anew (paper)."""
    history: Literal["codes", "items"] = "codes"
    """`codes`: a token a code (paper); `items`: a token an item, the sum of the vectors of its
    codes, which makes sequences shorter by the number of codes."""
    softmax: Literal["tree", "level"] = "tree"
    """What a code competes with: `tree`: those that an item has after the codes before it, so that
    all items together have probability 1 and no weight learns which tuples exist; `level`: all
    codes of its level (the paper: all tokens)."""
    width: Count = 64
    """Of the Transformer (128 in the paper)."""
    layers: Count = 2
    """Of the encoder, and of the decoder (4 in the paper)."""
    heads: Count = 4
    """Of every attention (6 in the paper)."""
    head_width: Count = 16
    """Of a head (64 in the paper)."""
    feed_forward: Count = 256
    """Width of the hidden layer of the feed-forward parts (1024 in the paper)."""
    dropout: Dropout = 0.1
    """Rate, where T5 has it (paper)."""
    users: Count = 2000
    """Tokens that users share by a hash of their ids, first in what is read (paper); 1: the same
    for all."""
    valid_users: Natural = 0
    """Impressions of the valid split that choose the epoch, drawn by the seed; 0: all."""

    @property
    def needs(self) -> frozenset[str]:
        """Epochs."""
        return frozenset({"epochs"})

    @model_validator(mode="after")
    def _heads_are_even(self) -> Self:
        if self.codes.levels > _MOST_LEVELS:
            raise ValueError(f"codes.levels: {self.codes.levels}, expected at most {_MOST_LEVELS}")
        return self


_MOST_LEVELS = 32

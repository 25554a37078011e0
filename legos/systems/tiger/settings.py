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
    """Quantisation of text vectors to semantic codes."""

    added: ClassVar[frozenset[str]] = frozenset({"optimizer"})
    method: Literal["kmeans", "rq_vae"] = "kmeans"
    """`kmeans`: residual k-means of the vectors; `rq_vae`: an autoencoder trained together with its
    codebooks, which start from k-means (the paper)."""
    levels: Count = 3
    """Codes per item, without the last one, which makes equal tuples unique (paper)."""
    size: Annotated[int, Field(ge=2)] = 256
    """Different codes of a level (paper); items, where they are fewer."""
    iterations: Count = 50
    """Maximum k-means iterations per level."""
    hidden: Annotated[tuple[Count, ...], _BY_RQ_VAE] = (512, 256, 128)
    """Widths of the encoder's hidden layers (paper); those of the decoder, reversed."""
    width: Annotated[Count, _BY_RQ_VAE] = 32
    """Width of the quantised vectors (paper)."""
    commitment: Annotated[Positive, _BY_RQ_VAE] = 0.25
    """Weight of the loss that keeps the encoder near its codes (paper: beta)."""
    epochs: Annotated[Count, _BY_RQ_VAE] = 200
    """Epochs of RQ-VAE (20,000 in the paper)."""
    batch_size: Annotated[Count, _BY_RQ_VAE] = 1024
    """Items per step of RQ-VAE (paper)."""
    optimizer: Annotated[Literal["adam", "adagrad"], _BY_RQ_VAE] = "adam"
    """Optimizer of RQ-VAE (the paper: Adagrad)."""
    lr: Annotated[Positive, _BY_RQ_VAE] = 0.001
    """Learning rate of RQ-VAE (0.4 in the paper)."""


@register_system(
    about="TIGER: generates the next item as semantic codes, with exact search (NeurIPS 2023)",
    runs="legos.systems.tiger.system:TigerSystem",
    shows="legos.systems.tiger.system:show",
)
class TigerModel(SystemModel):
    """Generative retrieval: an encoder reads a history's codes, a decoder generates the next."""

    added: ClassVar[frozenset[str]] = frozenset({"valid_users"})  # it used to decide no weights
    training: ClassVar[Mapping[str, Any]] = {"lr": 0.001, "batch_size": 256}

    system: Literal["tiger"] = "tiger"
    model: Annotated[LanguageModelSource | None, CONTENT] = None
    """Language model for the text vectors; null: all-MiniLM-L6-v2, or TF-IDF weighted words in
    languages that it does not know."""
    codes: CodeSettings = CodeSettings()
    reads: Literal["causal", "both_ways"] = "causal"
    """`causal`: causal attention in the encoder, so that one pass over a sequence serves all its
    next items; `both_ways`: bidirectional, one pass per next item (paper)."""
    history: Literal["codes", "items"] = "codes"
    """`codes`: one token per code (paper); `items`: one token per item, the sum of its code
    vectors, for shorter sequences."""
    softmax: Literal["tree", "level"] = "tree"
    """Normalisation of code scores. `tree`: over the codes that continue some item, so that the
    probabilities of all items sum to 1; `level`: over all codes of the level (the paper: over all
    tokens)."""
    width: Count = 64
    """Hidden size of the Transformer (128 in the paper)."""
    layers: Count = 2
    """Layers of the encoder and of the decoder (4 in the paper)."""
    heads: Count = 4
    """Attention heads (6 in the paper)."""
    head_width: Count = 16
    """Width of an attention head (64 in the paper)."""
    feed_forward: Count = 256
    """Hidden size of the feed-forward layers (1024 in the paper)."""
    dropout: Dropout = 0.1
    """Dropout, at the same places as in T5 (paper)."""
    users: Count = 2000
    """Number of user tokens, assigned by a hash of the user id and placed first in the input
    (paper); 1: the same token for all."""
    valid_users: Natural = 0
    """Impressions of the valid split for validation, sampled with the seed; 0: all."""

    @property
    def needs(self) -> frozenset[str]:
        """What TIGER needs from a configuration: epochs."""
        return frozenset({"epochs"})

    @model_validator(mode="after")
    def _heads_are_even(self) -> Self:
        if self.codes.levels > _MOST_LEVELS:
            raise ValueError(f"codes.levels: {self.codes.levels}, expected at most {_MOST_LEVELS}")
        return self


_MOST_LEVELS = 32

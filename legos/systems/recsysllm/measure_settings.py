"""Settings of the measurements of RecSysLLM, and of the baselines trained for them.

Torch is not imported here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from legos.settings import (
    CHOICE,
    NOTHING,
    WEIGHTS,
    Count,
    LessMemory,
    NotNegative,
    Positive,
    Seed,
    Settings,
)


class RatingModelSettings(Settings):
    """Training of the rating models that read only ids."""

    size: Count = 32
    """Width of the vectors."""
    hidden_sizes: tuple[Count, ...] = (32, 16)
    """Widths of the perceptron's hidden layers."""
    lr: Positive = 3e-3
    """Learning rate of Adam."""
    weight_decay: NotNegative = 0.02
    """L2 weight on the vectors and biases of a batch's ratings."""
    batch_size: Count = 512
    """Ratings per step."""
    epochs: Count = 30
    """Maximum number of epochs."""
    patience: Count = 3
    """Epochs without a lower error on the valid ratings before training stops."""


class ExplanationModelSettings(Settings):
    """Training of the explanation models NRT and PETER."""

    size: Count = 128
    """Hidden size (512 in PETER, 300 and 400 in NRT)."""
    num_layers: Count = 2
    """Layers of PETER (paper: 2)."""
    num_heads: Count = 2
    """Attention heads of PETER (paper: 2)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Dropout of both models (PETER)."""
    vocabulary: Count = 20_000
    """Vocabulary: the most frequent words of training (PETER)."""
    max_words: Count = 30
    """Maximum words of a sentence (15 in PETER); mined sentences have at most 30."""
    lr: Positive = 1e-3
    """Learning rate of Adam."""
    batch_size: Count = 128
    """Sentences per step (PETER)."""
    epochs: Count = 30
    """Maximum number of epochs."""
    patience: Count = 3
    """Epochs without a lower error on the valid sentences before training stops."""


class MeasureSettings(Settings):
    """Validation and test: prompts, users and search."""

    prompts: tuple[str, ...] = ()
    """Prompt templates to report, one row each; empty: of every family the held-out template and
    the last seen template with the same task."""
    search: Literal["exact", "beams"] = "exact"
    """Search for the most likely of all items. `exact` continues until no other item can be more
    likely; `beams` is the beam search of P5, which misses some of them."""
    most_read: Count | None = None
    """Limit of the exact search, in item tokens per user; results report how many lists are proven
    exact. Null: no limit, about five seconds per user with 12,101 titles."""
    beams: Annotated[Count, LessMemory(4)] = 20
    """Beam width, also of the first pass of the exact search; with `search: beams` it limits k."""
    valid_beams: Annotated[Count, WEIGHTS] = 20
    """Beam width in validation, which uses no exact search."""
    users: Count | None = None
    """Maximum users or reviews per row of a test, sampled with `seed`; null: all."""
    valid_users: Annotated[Count | None, WEIGHTS] = None
    """Maximum users or reviews per row in validation; null: all."""
    negatives: Count = 99
    """Negatives per test candidate list. Those of split `test_<negatives>` if the tables have it,
    so that every model ranks the same lists; otherwise sampled once with `seed` and stored."""
    seed: Annotated[Seed, CHOICE] = 0
    """Seed of stored candidates and sampled users; the same for all seeds of a run."""
    max_tokens: Count = 4096
    """Maximum tokens of a prompt with stored candidates; 100 titles take about 1,800. Other prompts
    keep the maximum of training."""
    batch_size: Annotated[Count, NOTHING, LessMemory(3)] = 16
    """Prompts per forward pass; changes memory, not results."""
    ratings: Literal["written", "mean"] = "written"
    """Rating prediction. `written`: the most likely written number (P5); `mean`: the expectation
    over all numbers from 1 to 5 (in tenths if training has them), which minimises squared error."""
    mean_shrink: NotNegative = 5.0
    """Shrinkage of the baseline of user and item means: pseudo-ratings at the global mean."""
    rating_models: RatingModelSettings = RatingModelSettings()
    """Training of the rating models that read only ids."""
    explainers: tuple[Literal["nrt", "peter", "peter+"], ...] = ()
    """Baselines to train on the training explanations during a test: NRT and PETER read the ids of
    user and item; PETER+ also reads the feature and is compared with prompts that name it."""
    explanation_models: ExplanationModelSettings = ExplanationModelSettings()
    """Training of the explanation models NRT and PETER."""

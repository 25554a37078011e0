"""Settings of what a test of RecSysLLM measures, and of the models that it trains beside.

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
    """How a rating model is trained."""

    size: Count = 32
    """Width of the vectors."""
    hidden_sizes: tuple[Count, ...] = (32, 16)
    """Widths of the perceptron's hidden layers."""
    lr: Positive = 3e-3
    """Of Adam."""
    weight_decay: NotNegative = 0.02
    """Times half the squared length of the vectors and biases of a batch's ratings."""
    batch_size: Count = 512
    """Ratings a step."""
    epochs: Count = 30
    """The most passes."""
    patience: Count = 3
    """Passes without a lower error on the valid ratings before it stops."""


class ExplanationModelSettings(Settings):
    """How a model is trained that explains from ids alone."""

    size: Count = 128
    """Width (512 in PETER, 300 and 400 in NRT)."""
    num_layers: Count = 2
    """Of PETER (2 there)."""
    num_heads: Count = 2
    """Of PETER (2 there)."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Of both (PETER)."""
    vocabulary: Count = 20_000
    """The most frequent words of training are known (PETER)."""
    max_words: Count = 30
    """Longer sentences lose their ends (15 in PETER); those that are mined have no more than 30."""
    lr: Positive = 1e-3
    """Of Adam."""
    batch_size: Count = 128
    """Sentences a step (PETER)."""
    epochs: Count = 30
    """The most passes."""
    patience: Count = 3
    """Passes without a lower error on the valid sentences before it stops."""


class MeasureSettings(Settings):
    """Which prompts are tried on how many users."""

    prompts: tuple[str, ...] = ()
    """Templates by name, a row each; none: of every family the held-out one and the last of the
    seen ones that ask the same."""
    search: Literal["exact", "beams"] = "exact"
    """How the likeliest of all items are found in a test and for a recommendation: `exact` goes on
    until no other item can be likelier, `beams` is P5's, which misses some of them."""
    most_read: Count | None = None
    """Tokens of items that the exact search reads for a user before it stops with what it has:
    results say how many lists were proven. null: until every list is proven, which takes some five
    seconds a user among 12,101 titles."""
    beams: Annotated[Count, LessMemory(4)] = 20
    """Entities that beams keep, and the first dive of the exact search; cut-offs cannot be larger
    where beams search alone."""
    valid_beams: Annotated[Count, WEIGHTS] = 20
    """Beams where epochs are compared, which is done without an exact search."""
    users: Count | None = None
    """At most so many users or reviews a row of a test, drawn by `seed`; null: all."""
    valid_users: Annotated[Count | None, WEIGHTS] = None
    """The same where epochs are compared; null: all."""
    negatives: Count = 99
    """Wrong candidates beside the right one: those of split `test_<negatives>` where the tables
    have it, so that every model ranks the same; else drawn once by `seed` and frozen."""
    seed: Annotated[Seed, CHOICE] = 0
    """Of frozen candidates and of the draw of users: the same for all seeds of a run."""
    max_tokens: Count = 4096
    """The most tokens of a prompt that lists frozen candidates: 100 titles are some 1,800. Those of
    other prompts are those of training."""
    batch_size: Annotated[Count, NOTHING, LessMemory(3)] = 16
    """Prompts read at once; changes memory, not results."""
    ratings: Literal["written", "mean"] = "written"
    """What counts as a rating. `written`: the number that is written, the likeliest one (P5);
    `mean`: the mean of all numbers from 1 to 5 (by tenths where training has these), each as likely
    as the model finds it, which has the least squared error of what it can say."""
    mean_shrink: NotNegative = 5.0
    """Of the row of user and item means: so many ratings of the mean count beside their own."""
    rating_models: RatingModelSettings = RatingModelSettings()
    """How a test trains the rows that predict ratings from ids alone."""
    explainers: tuple[Literal["nrt", "peter", "peter+"], ...] = ()
    """Models that a test trains on the training explanations and sets beside: NRT and PETER read
    the ids of user and item, PETER+ the feature, too, and stands beside prompts that name it."""
    explanation_models: ExplanationModelSettings = ExplanationModelSettings()
    """How a test trains them."""

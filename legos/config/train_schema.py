"""What an experiment YAML may say of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from legos.metrics.ranking import parse_metric
from legos.settings import (
    NOTHING,
    WEIGHTS,
    Count,
    Fraction,
    LearningRate,
    Natural,
    NotNegative,
    OnlyWith,
    Positive,
    Seed,
    Settings,
)

MetricName = Annotated[str, AfterValidator(lambda name: parse_metric(name).name)]
_WITH_COSINES = OnlyWith("loss", ("cosine_contrastive",))
_WITH_CANDIDATES = OnlyWith("loss", ("softmax", "bce", "bpr", "cosine_contrastive"), "all items")


class NegativesConfig(Settings):
    """Items a click is trained against."""

    strategy: Literal["impression", "user", "uniform", "popularity"] = "impression"
    """Shown and not clicked: in the impression (papers), ever by the user; or random items."""
    count: Count = 4
    """K negatives a click (4 in NAML, NRMS and ONCE)."""


class TrainConfig(Settings):
    """How to train."""

    loss: Literal["softmax", "bce", "bpr", "cosine_contrastive", "full_softmax", "multinomial"] = (
        "softmax"
    )
    """Cross-entropy over 1+K (papers), binary cross-entropy, pairwise, or of cosines (SimpleX);
    over the catalogue: `full_softmax` of a click, `multinomial` of all clicks of an impression
    (Multi-VAE)."""
    margin: Annotated[float, Field(gt=-1, lt=1), _WITH_COSINES] = 0.9
    """Of `cosine_contrastive`: a negative below this cosine costs nothing (m in SimpleX)."""
    negative_weight: Annotated[NotNegative, _WITH_COSINES] = 10.0
    """Of `cosine_contrastive`: the mean over a click's negatives counts so much (w in SimpleX)."""
    history: Literal["given", "clicks"] = "given"
    """What a row has for a history: `clicks` adds the other clicks of its impression, for data with
    one impression a user; `multinomial` keeps all of them and asks for what was read."""
    negatives: Annotated[NegativesConfig, _WITH_CANDIDATES] = NegativesConfig()
    """Items a click is trained against."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """AdamW's decay is decoupled from the gradient."""
    lr: LearningRate = 1e-3
    """Peak learning rate of everything but a language model."""
    item_lr: LearningRate | None = None
    """Peak learning rate of a language model in the item encoder; null: lr."""
    weight_decay: NotNegative = 0.0
    """On matrices; biases and gains do not decay."""
    warmup: Fraction = 0.0
    """Fraction of all steps over which the learning rate rises from 0."""
    schedule: Literal["constant", "linear"] = "constant"
    """After the warm-up: stay, or fall to 0 at the last epoch."""
    clip: Positive | None = None
    """Largest global gradient norm; null: no clipping."""
    batch_size: Count = 64
    """Clicks a micro-batch, shared by all processes."""
    acc_batch: Count = 1
    """Micro-batches a step, in all systems; exact: as one batch that many times as large."""
    item_page_size: Natural = 0
    """Items encoded at once in training; 0: all. Exact: gradients are cached at the item vectors
    and each page is encoded again; memory then does not grow with the batch."""
    epoch_batch: int = 0
    """0: an epoch is a pass; n: n batches; -n: 1/n of a pass. The next goes on where it ended."""
    epochs: Count = 50
    """The most epochs."""
    patience: Natural = 2
    """Epochs without improvement before training stops; 0: never."""
    metric: Annotated[MetricName, WEIGHTS.from_phase("validation")] = "GAUC"
    """Early stopping and the best checkpoint go by it, on the valid split."""
    seed: Seed = 2023
    """Of initial weights, order, negatives and dropout."""
    checkpoint_minutes: Annotated[Positive, NOTHING] = 10.0
    """Save `last` at least so often within an epoch."""
    checkpoint_steps: Annotated[Natural, NOTHING] = 0
    """Save `last` every so many steps, too; 0: by time alone."""

"""What an experiment YAML may say of training."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from legos.metrics.names import parse_metric
from legos.settings import (
    NOTHING,
    WEIGHTS,
    AskedFor,
    Count,
    Fraction,
    LearningRate,
    LessMemory,
    Natural,
    NotNegative,
    OnlyWith,
    Positive,
    Seed,
    Settings,
)

MetricName = Annotated[str, AfterValidator(lambda name: parse_metric(name).name)]
LATER = WEIGHTS.from_phase("finetuning")
"""Runs that differ only in such keys share pretraining (``legos.systems.cllm4rec.pretrained``)."""
GRADIENTS = frozenset({"gradients"})
"""The capability of every model that is trained by gradient steps."""
_STEPWISE = AskedFor(GRADIENTS)
_CLICKS = AskedFor(frozenset({"clicks"}))
_PROMPTS = AskedFor(frozenset({"prompts"}))
_STEPS = {
    "stages": "exp.train.stages.collaborative_steps, content_steps and recommendation_steps",
    "prompts": "exp.train.epoch_steps",
}
_EPOCHS = {
    "stages": "exp.train.stages.warmup_epochs, pretraining_epochs and finetuning_epochs "
    "(--warmup_epochs, --pretraining_epochs, --finetuning_epochs)"
}
_WITH_COSINES = OnlyWith("loss", ("cosine_contrastive",))
_WITH_GBCE = OnlyWith("loss", ("gbce",))
_SAMPLED = ("softmax", "bce", "bpr", "cosine_contrastive", "gbce", "sampled_softmax")
_WITH_CANDIDATES = OnlyWith("loss", _SAMPLED, "all items")
_BY_POPULARITY = OnlyWith("strategy", ("popularity",))


class NegativesConfig(Settings):
    """Negative items of a click."""

    strategy: Literal["impression", "user", "uniform", "popularity"] = "impression"
    """`impression`: items shown in the same impression and not clicked (papers); `user`: items
    shown to the user in any impression and not clicked; `uniform`, `popularity`: random items."""
    count: Count = 4
    """K, negatives per click (4 in NAML, NRMS and ONCE; 256 in gSASRec)."""
    shared: bool = False
    """Draw K negatives once per step, with replacement, and share them among all its clicks: one
    matrix product scores thousands of them cheaply. A click masks the ones it must not have. Needs
    strategy `uniform` or `popularity` and a user encoder that does not read candidates."""
    power: Annotated[Fraction, _BY_POPULARITY] = 1.0
    """For `popularity`: sampling weights are training clicks to this power (0.75 in word2vec)."""


class StagesConfig(Settings):
    """Warm-up, mutual pretraining and finetuning of system cllm4rec."""

    warmup_epochs: Natural = 10
    """Epochs that train only the content model, first (10 in the paper)."""
    pretraining_epochs: Natural = 100
    """Epochs of pretraining: a pass over interactions, then one over texts (100 in the paper)."""
    finetuning_epochs: Annotated[Natural, LATER] = 150
    """Epochs of finetuning: a pass over prompts, then one over texts (150 in the paper)."""
    finetuning_lr: Annotated[LearningRate, LATER] = 1e-4
    """Peak learning rate of finetuning (1e-4 in the public code); earlier stages use `lr`."""
    collaborative_steps: Count | None = None
    """Maximum steps per pass over users; the next pass continues from there. Null: no limit."""
    content_steps: Count | None = None
    """Maximum steps per pass over texts. Null: no limit."""
    recommendation_steps: Annotated[Count | None, LATER] = None
    """Maximum steps per pass over recommendation prompts. Null: no limit."""
    valid_users: Annotated[Count | None, LATER] = None
    """Users of the valid split that validate the epochs of finetuning; null: all."""


class TrainConfig(Settings):
    """How to train. A model YAML's `train` section overrides that of the experiment."""

    loss: Annotated[
        Literal[
            "softmax",
            "bce",
            "bpr",
            "cosine_contrastive",
            "gbce",
            "sampled_softmax",
            "full_softmax",
            "multinomial",
        ],
        _CLICKS,
    ] = "softmax"
    """Against K negatives: `softmax` (cross-entropy over 1+K; papers), `bce`, `bpr` (pairwise),
    `cosine_contrastive` (SimpleX). Against the whole catalogue: `full_softmax` per click,
    `multinomial` for all clicks of an impression together (Multi-VAE). Against a sample of a large
    catalogue: `gbce` (calibrated binary cross-entropy, gSASRec) and `sampled_softmax` (estimates
    `full_softmax`, with logQ correction)."""
    margin: Annotated[float, Field(gt=-1, lt=1), _WITH_COSINES, _CLICKS] = 0.9
    """For `cosine_contrastive`: negatives below this cosine have no loss (m in SimpleX)."""
    negative_weight: Annotated[NotNegative, _WITH_COSINES, _CLICKS] = 10.0
    """For `cosine_contrastive`: weight of the mean over a click's negatives (w in SimpleX)."""
    calibration: Annotated[Fraction, _WITH_GBCE, _CLICKS] = 0.75
    """For `gbce`: 0 equals `bce`, at 1 scores are probabilities (t in gSASRec, there 0.75)."""
    history: Annotated[Literal["given", "clicks"], _CLICKS] = "given"
    """History of a training row. `given`: the history in the data; `clicks`: also the other clicks
    of the impression, for data with one impression per user. With `clicks` and `multinomial` the
    targets stay in the history: the model reconstructs what it read."""
    sequences: Annotated[bool, _CLICKS] = False
    """Train on whole click sequences: one pass over a user's clicks serves all of that user's rows.
    A batch holds as many users as have `batch_size` rows on average. Needs a causal user encoder
    (`sasrec` and `transformer` with positions from the oldest click, `gru`, `hstu`). If a history
    is longer than `history_length`, a row may see fewer clicks, but at least the newest half of
    that. `bert4rec` always trains on sequences, with `batch_size` masked clicks on average."""
    negatives: Annotated[NegativesConfig, _WITH_CANDIDATES, _CLICKS] = NegativesConfig()
    """Negative items of a click."""
    optimizer: Annotated[Literal["adam", "adamw", "lazy_adam"], _STEPWISE] = "adam"
    """`adamw` decouples weight decay from the gradient. `lazy_adam` (bricks only) updates only the
    rows of ID tables that a step reads, so a step does not slow down with more items."""
    lr: Annotated[LearningRate, _STEPWISE] = 1e-3
    """Peak learning rate of all parameters without a learning rate below."""
    item_lr: Annotated[
        LearningRate | None,
        AskedFor(frozenset({"item"}), {"adapters": "exp.train.adapters_lr", "": "exp.train.lr"}),
    ] = None
    """Learning rate of the language model in the item encoder; null: `lr`."""
    adapters_lr: Annotated[
        LearningRate | None,
        AskedFor(frozenset({"adapters"}), {"item": "exp.train.item_lr", "": "exp.train.lr"}),
    ] = None
    """Learning rate of a system's language model, whether adapters or all weights; null: `lr`."""
    soft_tokens_lr: Annotated[LearningRate | None, AskedFor(frozenset({"soft_tokens"}))] = None
    """Learning rate of the tokens and positions a system adds to its language model; null: `lr`."""
    weight_decay: Annotated[NotNegative, _STEPWISE] = 0.0
    """Weight decay of matrices; biases and gains do not decay."""
    warmup: Annotated[Fraction, _STEPWISE] = 0.0
    """Fraction of all steps over which the learning rate rises from 0. With stages: a fraction of
    the steps before finetuning, and again of the steps of finetuning."""
    schedule: Annotated[Literal["constant", "linear"], _STEPWISE] = "constant"
    """Learning rate after the warm-up: constant, or falling linearly to 0 at the last step."""
    clip: Annotated[Positive | None, _STEPWISE] = None
    """Maximum global gradient norm; null: no clipping."""
    batch_size: Annotated[Count, LessMemory(2), _STEPWISE] = 64
    """Clicks, users, texts or prompts per micro-batch, divided among all processes."""
    acc_batch: Annotated[Count, _STEPWISE] = 1
    """Micro-batches per optimizer step; exactly equal to one batch that many times as large."""
    item_page_size: Annotated[Natural, _CLICKS] = 0
    """Items encoded at once in training; 0: all. Results stay exact: gradients are cached at the
    item vectors and each page is encoded again, so memory does not grow with the batch."""
    epoch_batch: Annotated[int, AskedFor(frozenset({"clicks"}), _STEPS)] = 0
    """Length of an epoch. 0: one pass; n: n batches; -n: 1/n of a pass. The next epoch continues
    where the last one stopped."""
    epoch_steps: Annotated[Count | None, _PROMPTS] = None
    """Optimizer steps per epoch of prompts (validation follows each epoch); null: one pass over all
    examples."""
    epochs: Annotated[Natural, AskedFor(frozenset({"epochs"}), _EPOCHS)] = 50
    """Maximum number of epochs; 0: measure the untrained model."""
    stages: Annotated[StagesConfig, AskedFor(frozenset({"stages"}))] = StagesConfig()
    """Warm-up, mutual pretraining and finetuning."""
    infill_share: Annotated[Fraction, _PROMPTS] = 0.2
    """Share of examples that are histories with blanks to fill; the others are task prompts."""
    reduction: Annotated[Literal["tokens", "examples"], _PROMPTS] = "tokens"
    """`tokens`: every target token has the same weight (GLM); `examples`: every example (P5)."""
    batch_tokens: Annotated[Count, _PROMPTS, LessMemory(1)] = 8192
    """Prompt tokens per forward pass. Changes memory; results change only by rounding and
    dropout."""
    patience: Annotated[Natural, WEIGHTS.from_phase("validation"), _STEPWISE] = 2
    """Epochs without improvement before training stops; 0: never."""
    metric: Annotated[MetricName, WEIGHTS.from_phase("validation")] = "GAUC"
    """Metric on the valid split that decides early stopping and the best checkpoint. Sums are
    allowed, such as `Recall@20+Recall@40+nDCG@100` of CLLM4Rec's public code."""
    seed: Seed = 2023
    """Seed of initial weights, order, negatives and dropout."""
    checkpoint_minutes: Annotated[Positive, NOTHING] = 10.0
    """Minutes between saves of the `last` checkpoint within an epoch."""
    checkpoint_steps: Annotated[Natural, NOTHING, _STEPWISE] = 0
    """Also save the `last` checkpoint every this many steps; 0: by time only."""

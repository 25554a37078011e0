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
"""Runs that differ in it alone share their pretraining (``legos.systems.cllm4rec.pretrained``)."""
GRADIENTS = frozenset({"gradients"})
"""What every model has that is trained step by step."""
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
    """Items a click is trained against."""

    strategy: Literal["impression", "user", "uniform", "popularity"] = "impression"
    """Shown and not clicked: in the impression (papers), ever by the user; or random items."""
    count: Count = 4
    """K negatives a click (4 in NAML, NRMS and ONCE; 256 in gSASRec)."""
    shared: bool = False
    """One draw of K, with replacement, for all clicks of a step, scored by a matrix product:
    thousands of negatives cost little. Those that a click may not have do not count for it. For
    `uniform` and `popularity`, and user encoders that do not look at candidates."""
    power: Annotated[Fraction, _BY_POPULARITY] = 1.0
    """Of `popularity`: weights are training clicks to this power (0.75 in word2vec)."""


class StagesConfig(Settings):
    """Warm-up, mutual pretraining and finetuning of system cllm4rec."""

    warmup_epochs: Natural = 10
    """Passes of the content model alone (10 in the paper)."""
    pretraining_epochs: Natural = 100
    """Each a pass of interactions, then one of texts (100 in the paper)."""
    finetuning_epochs: Annotated[Natural, LATER] = 150
    """Each a pass of recommendation prompts, then one of texts (150 in the paper)."""
    finetuning_lr: Annotated[LearningRate, LATER] = 1e-4
    """Peak learning rate of finetuning (1e-4 in the public code); before it: lr."""
    collaborative_steps: Count | None = None
    """At most so many steps of a pass over users; the next goes on there. Null: all."""
    content_steps: Count | None = None
    """The same for a pass over texts."""
    recommendation_steps: Annotated[Count | None, LATER] = None
    """The same for a pass over recommendation prompts."""
    valid_users: Annotated[Count | None, LATER] = None
    """Finetuning's epochs are compared on so many users of the valid split; null: on all."""


class TrainConfig(Settings):
    """How to train, for all systems; a model YAML's own `train` counts before that of `exp`."""

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
    """Cross-entropy over 1+K (papers), binary cross-entropy, pairwise, or of cosines (SimpleX);
    over the catalogue: `full_softmax` of a click, `multinomial` of all clicks of an impression
    (Multi-VAE); over a sample of a large one: `gbce`, calibrated binary cross-entropy (gSASRec),
    `sampled_softmax`, which estimates `full_softmax` (logQ correction)."""
    margin: Annotated[float, Field(gt=-1, lt=1), _WITH_COSINES, _CLICKS] = 0.9
    """Of `cosine_contrastive`: a negative below this cosine costs nothing (m in SimpleX)."""
    negative_weight: Annotated[NotNegative, _WITH_COSINES, _CLICKS] = 10.0
    """Of `cosine_contrastive`: the mean over a click's negatives counts so much (w in SimpleX)."""
    calibration: Annotated[Fraction, _WITH_GBCE, _CLICKS] = 0.75
    """Of `gbce`: 0 is `bce`, at 1 scores are probabilities (t in gSASRec, which has 0.75)."""
    history: Annotated[Literal["given", "clicks"], _CLICKS] = "given"
    """What a row has for a history: `clicks` adds the other clicks of its impression, for data with
    one impression a user; `multinomial` keeps all of them and asks for what was read."""
    sequences: Annotated[bool, _CLICKS] = False
    """Read a user's clicks once for all rows in them, as many users a batch as have `batch_size`
    rows on average: for user encoders that know no more of a history than what came before
    (`sasrec` and `transformer` with positions from the oldest, `gru`, `hstu`). Where a history is
    longer than `history_length`, a row may read less: the newest half of that at least.
    `bert4rec` always learns from sequences, with `batch_size` hidden clicks on average."""
    negatives: Annotated[NegativesConfig, _WITH_CANDIDATES, _CLICKS] = NegativesConfig()
    """Items a click is trained against."""
    optimizer: Annotated[Literal["adam", "adamw", "lazy_adam"], _STEPWISE] = "adam"
    """AdamW's decay is decoupled from the gradient. `lazy_adam`, for bricks: of tables of ids only
    the rows that a step reads change, so that a step does not take longer with more items."""
    lr: Annotated[LearningRate, _STEPWISE] = 1e-3
    """Peak learning rate of everything that has none of its own below."""
    item_lr: Annotated[
        LearningRate | None,
        AskedFor(frozenset({"item"}), {"adapters": "exp.train.adapters_lr", "": "exp.train.lr"}),
    ] = None
    """Of a language model in the item encoder; null: lr."""
    adapters_lr: Annotated[
        LearningRate | None,
        AskedFor(frozenset({"adapters"}), {"item": "exp.train.item_lr", "": "exp.train.lr"}),
    ] = None
    """Of what learns of a system's language model, adapters or all of it; null: lr."""
    soft_tokens_lr: Annotated[LearningRate | None, AskedFor(frozenset({"soft_tokens"}))] = None
    """Of a system's own tokens and positions in its language model; null: lr."""
    weight_decay: Annotated[NotNegative, _STEPWISE] = 0.0
    """On matrices; biases and gains do not decay."""
    warmup: Annotated[Fraction, _STEPWISE] = 0.0
    """Fraction of all steps over which the learning rate rises from 0; with stages of those before
    finetuning, and again of finetuning's."""
    schedule: Annotated[Literal["constant", "linear"], _STEPWISE] = "constant"
    """After the warm-up: stay, or fall to 0 at the last of these steps."""
    clip: Annotated[Positive | None, _STEPWISE] = None
    """Largest global gradient norm; null: no clipping."""
    batch_size: Annotated[Count, LessMemory(2), _STEPWISE] = 64
    """Clicks, users, texts or prompts a micro-batch, shared by all processes."""
    acc_batch: Annotated[Count, _STEPWISE] = 1
    """Micro-batches a step, in all systems; exact: as one batch that many times as large."""
    item_page_size: Annotated[Natural, _CLICKS] = 0
    """Items encoded at once in training; 0: all. Exact: gradients are cached at the item vectors
    and each page is encoded again; memory then does not grow with the batch."""
    epoch_batch: Annotated[int, AskedFor(frozenset({"clicks"}), _STEPS)] = 0
    """0: an epoch is a pass; n: n batches; -n: 1/n of a pass. The next goes on where it ended."""
    epoch_steps: Annotated[Count | None, _PROMPTS] = None
    """Steps of an epoch of prompts; null: as many as draw as many examples as there are."""
    epochs: Annotated[Natural, AskedFor(frozenset({"epochs"}), _EPOCHS)] = 50
    """The most epochs; 0: the model as it is, measured without training."""
    stages: Annotated[StagesConfig, AskedFor(frozenset({"stages"}))] = StagesConfig()
    """Warm-up, mutual pretraining and finetuning."""
    infill_share: Annotated[Fraction, _PROMPTS] = 0.2
    """Share of examples that are histories with blanks; the others are task prompts."""
    reduction: Annotated[Literal["tokens", "examples"], _PROMPTS] = "tokens"
    """`tokens`: every target counts the same (GLM); `examples`: every example does (P5)."""
    batch_tokens: Annotated[Count, _PROMPTS, LessMemory(1)] = 8192
    """Tokens of prompts read at once; more are read in turn. Changes memory, and results only by
    rounding and by dropout."""
    patience: Annotated[Natural, WEIGHTS.from_phase("validation"), _STEPWISE] = 2
    """Epochs without improvement before training stops; 0: never."""
    metric: Annotated[MetricName, WEIGHTS.from_phase("validation")] = "GAUC"
    """Early stopping and the best checkpoint go by it, on the valid split; it may be a sum, as
    `Recall@20+Recall@40+nDCG@100` of CLLM4Rec's public code."""
    seed: Seed = 2023
    """Of initial weights, order, negatives and dropout."""
    checkpoint_minutes: Annotated[Positive, NOTHING] = 10.0
    """Save `last` at least so often within an epoch."""
    checkpoint_steps: Annotated[Natural, NOTHING, _STEPWISE] = 0
    """Save `last` every so many steps, too; 0: by time alone."""

"""What section ``exp`` may say: how to measure, what to write, which baselines stand beside."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from legos.config.compare_schema import CompareConfig
from legos.config.search_schema import SearchConfig
from legos.config.train_schema import MetricName, TrainConfig
from legos.errors import nearest
from legos.home import home
from legos.lm.locate import PACKAGED
from legos.lm.settings import LanguageModelSource
from legos.metrics.names import GLOBAL
from legos.registry import BaselineConfig, bricks, read_baseline
from legos.settings import (
    CHOICE,
    MEASURED_CONTENT,
    MEASUREMENT,
    NOTHING,
    TRAINED_OR_TESTED,
    AskedFor,
    Count,
    InModes,
    Name,
    Natural,
    OnlyWith,
    Settings,
    refuse_repetition,
)

_STATES = AskedFor(
    frozenset({"language_model"}),
    {"stages": "exp.cache.token_folder", "prompts": "exp.cache.candidate_folder"},
)


MINILM = LanguageModelSource.model_construct(name="minilm", package=PACKAGED["minilm"])
"""The default language model for reading texts."""


def _baseline(value: Any) -> Any:
    names = bricks("baseline").names()
    if isinstance(value, str) and value not in names:
        raise ValueError(f"unknown baseline {value!r}; {nearest(value, names)}")
    return read_baseline(value)


def _as_given(baseline: BaselineConfig) -> Any:
    """Return a baseline's name, with its settings that differ from the defaults."""
    changed = baseline.model_dump(mode="json", exclude_defaults=True)
    return {"name": baseline.name, **changed} if changed else baseline.name


def _device(name: str) -> str:
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", name):
        raise ValueError("expected auto, cpu, cuda or a device number such as cuda:1")
    return name


def at_home(path: str) -> Any:
    """Return a default path beside ``data/``, ``runs/`` and ``cache/``."""
    return Field(default_factory=lambda: home() / path)


class EvaluateConfig(Settings):
    """How to measure."""

    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = (
        "GAUC",
        "MRR",
        "nDCG@5",
        "nDCG@10",
    )
    """Metrics to report: AUC, GAUC, MRR, MRR-all, LRAP, nDCG@k, HR@k, Recall@k, LogLoss."""
    ranking: Annotated[Literal["shown", "all"], CHOICE] = "shown"
    """`shown` ranks clicked items among the candidates of their impression, `all` against the
    whole catalogue: `Recall@k` is then hits / min(k, clicks) as in Multi-VAE, and AUC and LogLoss
    are not defined."""
    exclude: Annotated[
        Literal["history", "history+valid", "nothing"], CHOICE, OnlyWith("ranking", ("all",))
    ] = "history"
    """Items left out of `ranking: all`: the user's history, also the clicks in valid, or none."""
    page_size: Annotated[Count, NOTHING] = 512
    """Items and users encoded at once; changes memory, not results."""
    fast_eval: Annotated[bool, NOTHING, AskedFor(frozenset({"clicks"}))] = True
    """Encode every item and every history only once; false: encode each impression separately."""
    cold_warm: bool = True
    """Report metrics also for cold and warm items, cold and active users, unseen and seen users."""
    cold_user_clicks: Natural = 5
    """Maximum clicks before the impression for a user to count as cold (5 in ONCE)."""
    user_columns: tuple[str, ...] = ()
    """Report metrics also for users whose text or item column of this name in `users` is not
    empty."""
    beyond_accuracy_k: Count | None = 10
    """k for novelty, coverage and diversity of the top k; null: not computed."""
    text_model: Annotated[LanguageModelSource | None, MEASURED_CONTENT] = None
    """Language model for baselines that compare texts. Null: the run's own text vectors; without
    them MiniLM; for languages that MiniLM does not know, TF-IDF weighted words."""


class CacheConfig(Settings):
    """Which hidden states of a language model to keep, and where."""

    layers: Annotated[tuple[int, ...], _STATES] = (-1,)
    """Layers whose input states are cached; negative numbers count from the end."""
    pooled: Annotated[bool, _STATES] = False
    """Also cache the mean-pooled states of all layers, for item encoder iisan."""
    folder: Annotated[Path, _STATES] = at_home("cache/hidden")
    """Folder of the caches: one folder per model, then one per combination of settings."""
    token_folder: Annotated[Path, AskedFor(frozenset({"stages"}))] = at_home("cache/tokens")
    """Folder of tokenized texts for system cllm4rec."""
    candidate_folder: Annotated[Path, AskedFor(frozenset({"prompts"}))] = at_home(
        "cache/candidates"
    )
    """Folder of the fixed test candidates for system recsysllm."""
    batch_tokens: Annotated[Count, _STATES] = 16384
    """Tokens per forward pass of the language model; changes memory, not results."""
    keep_days: Annotated[Count | None, _STATES] = None
    """`--prune` removes caches that no run has read for this many days; null: keep all."""

    @model_validator(mode="after")
    def _something_once(self) -> Self:
        refuse_repetition("layer", self.layers)
        if not self.layers and not self.pooled:
            raise ValueError("nothing to cache; give layers, or pooled: true")
        return self


class VectorsConfig(Settings):
    """Which vectors of a language model to write as files, and where."""

    model: LanguageModelSource = MINILM
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""
    pooling: Literal["mean", "first", "last"] = "mean"
    """Item vector from final token states: their mean, the first (BERT's CLS) or the last."""
    prompts: bool = True
    """Prepend the prompts of the data YAML to an item and its fields."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the language model; the written vectors are fp32."""
    folder: Path = at_home("cache/embed")
    """Folder for `<model>-token.safetensors` and `<data>-<model>.safetensors`."""
    batch_tokens: Count = 16384
    """Tokens per forward pass of the language model; changes memory, not results."""


class ExportConfig(Settings):
    """Where a trained language model goes."""

    folder: Path | None = None
    """Output folder, in Hugging Face's format; null: `<run folder>/export/language_model`."""


class RecommendConfig(Settings):
    """Lists for all users of the data."""

    k: Count = 50
    """Items per list."""
    output: Path | None = None
    """Output file, .parquet, .csv or .jsonl; null: `<run folder>/recommendations.parquet`."""


class ExpConfig(Settings):
    """What to do (`config/exp/`)."""

    name: Annotated[Name, NOTHING]
    """Name of the experiment; it does not change results."""
    mode: Annotated[
        Literal[
            "train",
            "test",
            "train_test",
            "compare",
            "search",
            "cache",
            "embed",
            "export",
            "recommend",
        ],
        NOTHING,
    ]
    """`train`; `test`: measure a trained model; `train_test`: both; `compare`: both for several
    models; `search`: search for the best settings; `cache`: cache hidden states; `embed`: write
    vectors of tokens and items; `export`: write a trained language model; `recommend`: write a list
    for every user."""
    train: Annotated[TrainConfig, TRAINED_OR_TESTED] = TrainConfig()
    """How to train."""
    evaluate: Annotated[EvaluateConfig, MEASUREMENT.from_phase("validation"), TRAINED_OR_TESTED] = (
        EvaluateConfig()
    )
    """How to measure."""
    baselines: Annotated[
        tuple[
            Annotated[BaselineConfig, BeforeValidator(_baseline), PlainSerializer(_as_given)], ...
        ],
        NOTHING,
        TRAINED_OR_TESTED,
    ] = ()
    """Baselines to add to the results: names, or mappings with settings (`{name: ease, l2: 300}`).
    Baselines that the data set does not support are skipped with a notice."""
    plugins: Annotated[tuple[str, ...], NOTHING] = ()
    """Modules that register your own bricks or systems (`--plugin`). Installed packages with an
    entry point `legos.plugins` are found without naming them."""
    device: Annotated[str, AfterValidator(_device), NOTHING] = "auto"
    """Device: auto, cpu, cuda or cuda:1."""
    precision: Annotated[Literal["fp32", "bf16", "fp16"], CHOICE] = "fp32"
    """Precision of the forward pass; weights stay fp32."""
    distributed: Annotated[Literal["ddp", "fsdp"], NOTHING, TRAINED_OR_TESTED] = "ddp"
    """Several processes: `ddp` replicates the model; `fsdp` shards every layer of its language
    model. `fsdp` needs less memory, but every process then scores all impressions."""
    deterministic: Annotated[bool, CHOICE, TRAINED_OR_TESTED] = False
    """Refuse non-deterministic operations."""
    runs_folder: Annotated[Path, NOTHING] = at_home("runs")
    """Folder of all runs; results go to `<runs_folder>/<data>/<model>/<run id>/`."""
    report: Annotated[bool, NOTHING, TRAINED_OR_TESTED] = True
    """Write report.html."""
    compare: Annotated[CompareConfig | None, NOTHING, InModes(("compare",))] = None
    """For mode compare: which models, embeds and seeds."""
    search: Annotated[SearchConfig | None, NOTHING, InModes(("search",))] = None
    """For mode search: how many trials, and which settings they try."""
    cache: Annotated[CacheConfig, NOTHING] = Field(default_factory=CacheConfig)
    """Hidden states of a language model: what mode cache computes and item encoders read."""
    vectors: Annotated[VectorsConfig, NOTHING, InModes(("embed",))] = Field(
        default_factory=VectorsConfig
    )
    """For mode embed: which vectors of tokens and items."""
    export: Annotated[ExportConfig, NOTHING, InModes(("export",))] = ExportConfig()
    """For mode export: where the trained language model goes."""
    recommend: Annotated[RecommendConfig, NOTHING, InModes(("recommend",))] = RecommendConfig()
    """For mode recommend: how long lists are, and where they go."""
    load: Annotated[Path | None, NOTHING] = None
    """For modes test, export, recommend: a run folder or a checkpoint; null: the run with these
    settings."""

    @model_validator(mode="after")
    def _rankings_of_all_items(self) -> Self:
        if self.evaluate.ranking == "all":
            names = (*self.evaluate.metrics, self.train.metric)
            wrong = [name for name in dict.fromkeys(names) if name in GLOBAL]
            if wrong:
                raise ValueError(
                    f"metric {', '.join(wrong)} compares scores of different impressions and is "
                    "not defined with evaluate.ranking all; take GAUC"
                )
            if not self.evaluate.fast_eval:
                raise ValueError(
                    "evaluate.ranking all reads every item and history once; set "
                    "evaluate.fast_eval true"
                )
        return self

    @model_validator(mode="after")
    def _parts_of_the_mode(self) -> Self:
        if self.mode == "compare" and self.compare is None:
            raise ValueError("mode compare needs a section compare with its models")
        if self.mode == "search" and (self.search is None or self.compare is not None):
            raise ValueError(
                "mode search needs a section search with its ranges, such as {ranges: "
                "{exp.train.lr: {low: 1e-4, high: 1e-2, log: true}}}, and no section compare"
            )
        if self.load is not None and self.mode not in ("test", "export", "recommend"):
            raise ValueError(
                f"load is read by modes test, export and recommend only, this is mode {self.mode}"
            )
        return self

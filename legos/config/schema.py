"""What a YAML may say: one class a section, each key with its meaning, unknown keys refused.

The four YAMLs of a run are the four parts of :class:`RunConfig`; that of the data is in
``data_schema``, that of the model in ``model_schema``. Torch is not imported here; the
bricks' own settings come from their registries when a model section is read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, SerializeAsAny, model_validator

from legos.config.checks import (
    BaselineName,
    Device,
    MetricName,
    refuse_lost_references,
    refuse_no_cosines,
    refuse_pairs_only,
    refuse_repetition,
    refuse_unranked,
)
from legos.config.data_schema import DataConfig, refuse_other_impressions
from legos.config.model_schema import ComparedModel, ModelConfig, SystemModel
from legos.config.needs import TOKEN_VECTORS, stands_on_language_model
from legos.config.train_schema import TrainConfig
from legos.errors import ConfigError
from legos.lm.locate import packaged
from legos.lm.source import LanguageModelSource
from legos.settings import (
    CHOICE,
    CONTENT,
    MEASURED_CONTENT,
    MEASUREMENT,
    NOTHING,
    AskedFor,
    Count,
    Dropout,
    Name,
    Natural,
    OnlyWith,
    Seed,
    Settings,
)

_TOKEN_VECTORS = AskedFor(TOKEN_VECTORS)


class EmbedConfig(Settings):
    """Which vectors tokens start from (`config/embed/`)."""

    name: Annotated[Name, NOTHING]
    """Shown in results tables."""
    source: Annotated[
        Literal["random", "language_model", "token_table", "text_file"], _TOKEN_VECTORS
    ]
    """`language_model`: its token table; `token_table`: one that `exp.mode: embed` wrote;
    `text_file`: a word and its numbers a line (GloVe)."""
    path: Annotated[LanguageModelSource | str | None, CONTENT, _TOKEN_VECTORS] = None
    """A name of `config/llm.yaml`, a Hugging Face folder or name, a .gguf file; or the file."""
    vocabulary: Annotated[str | None, _TOKEN_VECTORS] = None
    """The one tokenizer whose tokens get these vectors; null: of every text field."""
    embed_hidden_size: Annotated[Count | None, NOTHING] = None
    """E, their width; null: as found. Another width than found is an error."""
    item_vectors: Annotated[Path | None, CONTENT, AskedFor(frozenset({"item_vectors"}))] = None
    """Vectors of whole items that item encoder `fixed_vectors` reads: .npy or .safetensors."""
    user_vectors: Annotated[Path | None, CONTENT, AskedFor(frozenset({"user_vectors"}))] = None
    """Vectors of whole users that user encoder `user_vectors` reads: .npy or .safetensors."""
    item_codes: Annotated[Path | None, CONTENT, AskedFor(frozenset({"item_codes"}))] = None
    """Semantic codes of items that item encoder `semantic_codes` reads: .npy or .safetensors."""
    frozen: Annotated[bool, _TOKEN_VECTORS] = True
    """Keep them as they are; a projection to hidden_size is trained in any case."""
    dropout: Annotated[Dropout, _TOKEN_VECTORS] = 0.0
    """Rate on token and category vectors."""

    @model_validator(mode="after")
    def _path_where_needed(self) -> Self:
        if self.source == "random" and self.path is not None:
            raise ValueError("source random reads no path; remove it or change the source")
        if self.source != "random" and not self.path:
            raise ValueError(f"source {self.source} needs a path")
        return self


class EvaluateConfig(Settings):
    """How to measure."""

    metrics: Annotated[tuple[MetricName, ...], Field(min_length=1)] = (
        "GAUC",
        "MRR",
        "nDCG@5",
        "nDCG@10",
    )
    """AUC, GAUC, MRR, MRR-all, LRAP, nDCG@k, HR@k, Recall@k, LogLoss."""
    ranking: Annotated[Literal["shown", "all"], CHOICE] = "shown"
    """Rank clicks among the candidates of their impression, or among all items there are; then
    `Recall@k` is hits / min(k, clicks) as in Multi-VAE, and AUC and LogLoss are not defined."""
    exclude: Annotated[
        Literal["history", "history+valid", "nothing"], CHOICE, OnlyWith("ranking", ("all",))
    ] = "history"
    """Items left out of a ranking of all: what the user had read before, and clicked in valid."""
    page_size: Annotated[Count, NOTHING] = 512
    """Items and users encoded at once; changes memory, not results."""
    fast_eval: Annotated[bool, NOTHING] = True
    """Every item and every history encoded once; false: each impression on its own."""
    cold_warm: bool = True
    """Rows for cold and warm items, cold and active users, unseen and seen users."""
    cold_user_clicks: Natural = 5
    """A user with at most so many clicks before the impression is cold (5 in ONCE)."""
    user_columns: tuple[str, ...] = ()
    """Rows for the users that have something in these text or item columns of table `users`."""
    beyond_accuracy_k: Count | None = 10
    """Novelty, coverage and diversity of the best k; null: not computed."""
    text_model: Annotated[LanguageModelSource, MEASURED_CONTENT] = Field(
        default_factory=lambda: packaged("minilm")
    )
    """Language model of the baselines that compare texts, named like any other."""


class CompareConfig(Settings):
    """The runs of a comparison: models × embeds × seeds.

    A YAML names model and embed YAMLs; reading it puts their content here.
    """

    models: tuple[SerializeAsAny[ComparedModel], ...] = Field(min_length=1)
    """Model YAMLs, a row each."""
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (1,)
    """A run each; more than one gives mean ± standard deviation."""
    embeds: tuple[EmbedConfig, ...] = ()
    """Embed YAMLs, a row each beside the models; none: the embed YAML of the run."""
    curve: str | None = None
    """Dotted key of a number that rows differ in, `model.mutual.weight`, `exp.train.lr`: metrics
    are drawn over it, rows that differ in more and baselines as level lines. Null: no figure."""

    @model_validator(mode="after")
    def _once_each(self) -> Self:
        refuse_repetition("model", [model.name for model in self.models])
        refuse_repetition("embed", [embed.name for embed in self.embeds])
        refuse_repetition("seed", self.seeds)
        refuse_lost_references({model.name: model.against for model in self.models})
        return self


class CacheConfig(Settings):
    """Which hidden states of a language model to keep, and where."""

    layers: tuple[int, ...] = (-1,)
    """Layers whose input is cached; negative numbers count from the end."""
    pooled: bool = False
    """The mean-pooled states of all layers, for item encoder iisan."""
    folder: Path = Path("cache/hidden")
    """A folder a model and below it one for everything that decides the states."""
    token_folder: Path = Path("cache/tokens")
    """Of the texts that system cllm4rec reads, tokenized once."""
    candidate_folder: Path = Path("cache/candidates")
    """Of the frozen candidates that system recsysllm is tested on."""
    batch_tokens: Count = 16384
    """Tokens the language model reads at once; changes memory, not results."""
    keep_days: Count | None = None
    """`--prune` removes caches that nothing has read for so long; null: none."""

    @model_validator(mode="after")
    def _something_once(self) -> Self:
        refuse_repetition("layer", self.layers)
        if not self.layers and not self.pooled:
            raise ValueError("nothing to cache; give layers, or pooled: true")
        return self


class VectorsConfig(Settings):
    """Which vectors of a language model to write as files, and where."""

    model: LanguageModelSource = Field(default_factory=lambda: packaged("minilm"))
    """A name of `config/llm.yaml`, a Hugging Face folder or name, or a .gguf file."""
    pooling: Literal["mean", "first", "last"] = "mean"
    """An item's vector: the mean of its tokens' final states, the first (BERT's CLS), the last."""
    prompts: bool = True
    """Read the prompts of the data YAML before an item and its fields."""
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Of the weights that read the items; files are fp32."""
    folder: Path = Path("cache/embed")
    """Of the files `<model>-token.safetensors` and `<data>-<model>.safetensors`."""
    batch_tokens: Count = 16384
    """Tokens the language model reads at once; changes memory, not results."""


class ExportConfig(Settings):
    """Where a trained language model goes."""

    folder: Path | None = None
    """Of the model in Hugging Face's format; null: `<run folder>/export/language_model`."""


class ExpConfig(Settings):
    """What to do (`config/exp/`)."""

    name: Annotated[Name, NOTHING]
    """Of the experiment; it changes no result."""
    mode: Annotated[
        Literal["train", "test", "train_test", "compare", "cache", "embed", "export"], NOTHING
    ]
    """Train; measure a trained model; both; both for several models; cache hidden states; write
    vectors of tokens and items; write a trained language model."""
    train: TrainConfig = TrainConfig()
    """How to train."""
    evaluate: Annotated[EvaluateConfig, MEASUREMENT.from_phase("validation")] = EvaluateConfig()
    """How to measure."""
    baselines: Annotated[tuple[BaselineName, ...], NOTHING] = ()
    """Rows beside the models; those that a data set cannot have are skipped and said so."""
    device: Annotated[Device, NOTHING] = "auto"
    """auto, cpu, cuda or cuda:1."""
    precision: Annotated[Literal["fp32", "bf16", "fp16"], CHOICE] = "fp32"
    """Of the forward pass; weights stay fp32."""
    deterministic: Annotated[bool, CHOICE] = False
    """Refuse operations whose results may differ from run to run."""
    runs_folder: Annotated[Path, NOTHING] = Path("runs")
    """Results go to `<runs_folder>/<data>/<model>/<run id>/`."""
    report: Annotated[bool, NOTHING] = True
    """Write report.html."""
    compare: Annotated[CompareConfig | None, NOTHING] = None
    """For mode compare: which models, embeds and seeds."""
    cache: Annotated[CacheConfig, NOTHING] = CacheConfig()
    """Hidden states of a language model: what mode cache computes and item encoders read."""
    vectors: Annotated[VectorsConfig, NOTHING] = VectorsConfig()
    """For mode embed: which vectors of tokens and items."""
    export: Annotated[ExportConfig, NOTHING] = ExportConfig()
    """For mode export: where the trained language model goes."""
    load: Annotated[Path | None, NOTHING] = None
    """For modes test and export: a run folder or a checkpoint; null: the run of these settings."""

    @model_validator(mode="after")
    def _rankings_of_all_items(self) -> Self:
        if self.evaluate.ranking == "all":
            refuse_unranked((*self.evaluate.metrics, self.train.metric))
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
        if self.load is not None and self.mode not in ("test", "export"):
            raise ValueError(
                f"load is read by modes test and export only, this is mode {self.mode}"
            )
        return self


class RunConfig(Settings):
    """All of a run."""

    data: DataConfig
    """What to read."""
    model: SerializeAsAny[SystemModel]
    """Which bricks, or which system; for mode compare the first of `exp.compare.models`."""
    exp: ExpConfig
    """What to do."""
    embed: EmbedConfig
    """Which vectors tokens start from."""

    @property
    def bricks(self) -> ModelConfig:
        """The model as bricks.

        Raises:
            ConfigError: it is another system.
        """
        if not isinstance(self.model, ModelConfig):
            raise ConfigError(
                f"model {self.model.name} is a system of its own ({self.model.system}); what is "
                "asked for is made for models of bricks"
            )
        return self.model

    @model_validator(mode="after")
    def _random_vectors_are_hidden_size_wide(self) -> Self:
        compare = self.exp.compare
        models = compare.models if compare else (self.model,)
        embeds = (compare.embeds if compare else ()) or (self.embed,)
        for embed in embeds:
            width = embed.embed_hidden_size
            for model in models:
                if not isinstance(model, ModelConfig) or stands_on_language_model(model):
                    continue  # the width of a language model is known where it is opened
                if embed.source == "random" and width not in (None, model.hidden_size):
                    raise ValueError(
                        f"embed.embed_hidden_size: {width}, but random vectors ({embed.name}) are "
                        f"model.hidden_size = {model.hidden_size} wide ({model.name}); "
                        "give the same or none"
                    )
        return self

    @model_validator(mode="after")
    def _loss_fits_the_scores(self) -> Self:
        models = self.exp.compare.models if self.exp.compare else (self.model,)
        for model in models:
            own = model.train if isinstance(model, ComparedModel) else None
            loss = (own or self.exp.train).loss
            if not isinstance(model, ModelConfig):
                continue
            if loss in ("full_softmax", "multinomial"):
                refuse_pairs_only(loss, model.user, model.predictor)
            elif loss == "cosine_contrastive":
                refuse_no_cosines(model.predictor)
        return self

    @model_validator(mode="after")
    def _one_set_of_impressions(self) -> Self:
        models = self.exp.compare.models if self.exp.compare else ()
        refuse_other_impressions(self.data, {model.name: model.data for model in models})
        return self

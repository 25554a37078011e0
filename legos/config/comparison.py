"""The rows of a comparison and the single runs that each consists of."""

from __future__ import annotations

from dataclasses import dataclass

from legos.config.model_schema import ComparedModel, ModelConfig
from legos.config.schema import EmbedConfig, RunConfig


@dataclass(frozen=True)
class ComparedRow:
    """A row of a comparison's tables.

    Attributes:
        label: the model's name, with that of the token vectors where there are several.
        reference: label of the row that it is measured against; None for the first row, unless
            it names one.
        runs: one a seed.
    """

    label: str
    reference: str | None
    runs: tuple[RunConfig, ...]


def comparison_rows(config: RunConfig) -> list[ComparedRow]:
    """A row for each model and embed of ``exp.compare``, models outside.

    ``against`` names a model: the reference is its row with the same token vectors. Without it
    the reference is the first row of all. A system that reads no token vectors has one row.
    """
    compare = config.exp.compare
    if compare is None:
        return [ComparedRow(config.model.name, None, (config,))]
    embeds = compare.embeds or (config.embed,)
    of_bricks = {entry.name for entry in compare.models if isinstance(entry, ModelConfig)}

    def label(name: str, embed: EmbedConfig) -> str:
        return f"{name} + {embed.name}" if len(embeds) > 1 and name in of_bricks else name

    first = label(compare.models[0].name, embeds[0])
    rows = []
    for entry in compare.models:
        for embed in embeds if entry.name in of_bricks else embeds[:1]:
            own = label(entry.name, embed)
            reference = label(entry.against, embed) if entry.against else first
            runs = tuple(_run(config, entry, embed, seed) for seed in compare.seeds)
            rows.append(ComparedRow(own, None if reference == own else reference, runs))
    return rows


def comparison_runs(config: RunConfig) -> list[RunConfig]:
    """One ``train_test`` run for each model, embed and seed of ``exp.compare``, in this order.

    A run is the same, run id included, as one started by itself.
    """
    return [run for row in comparison_rows(config) for run in row.runs]


def _run(config: RunConfig, entry: ComparedModel, embed: EmbedConfig, seed: int) -> RunConfig:
    return RunConfig(
        data=entry.data or config.data,
        model=entry.alone(),
        embed=embed,
        exp=config.exp.model_copy(
            update={
                "mode": "train_test",
                "compare": None,
                "train": (entry.train or config.exp.train).model_copy(update={"seed": seed}),
            }
        ),
    )

"""The single runs that a comparison consists of."""

from __future__ import annotations

from legos.config.schema import RunConfig


def comparison_runs(config: RunConfig) -> list[RunConfig]:
    """One ``train_test`` run for each model, embed and seed of ``exp.compare``, in this order.

    A run is the same, run id included, as one started by itself.
    """
    compare = config.exp.compare
    if compare is None:
        return [config]
    return [
        RunConfig(
            data=config.data,
            model=model,
            embed=embed,
            exp=config.exp.model_copy(
                update={
                    "mode": "train_test",
                    "compare": None,
                    "train": config.exp.train.model_copy(update={"seed": seed}),
                }
            ),
        )
        for model in compare.models
        for embed in (compare.embeds or (config.embed,))
        for seed in compare.seeds
    ]

"""Part ``models``: every shipped model of bricks in 16 bits, against fp32 on the CPU."""

from __future__ import annotations

from copy import deepcopy

from accelerate import Accelerator
from torch import nn

from benchmarks.gpu.equality import compare
from benchmarks.gpu.outcome import Row, Tell
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.systems import click_training, clicks_recipe
from benchmarks.models import Shipped
from benchmarks.shapes import Shape
from legos.config.models import names_of
from legos.errors import ConfigError
from legos.systems.bricks.recipe import BricksRecipe


def models_part(setting: Setting, tell: Tell) -> None:
    """All that need neither a language model nor given user vectors; a row for each that fails."""
    left_out: list[str] = []
    rows: list[Row] = []
    names = names_of("model")[: setting.sizes.shipped]
    for name in names:
        try:
            shipped = Shipped.of(name, Shape(60, setting.sizes.clicks, 8))
        except ConfigError:
            left_out.append(name)
            continue

        def make(accelerator: Accelerator, shipped: Shipped = shipped) -> BricksRecipe:
            return shipped_recipe(accelerator, shipped)

        compare(setting, name, make, rows.append, rounding=True)
        print(f"models: {name} {'as on the CPU' if _holds(rows, name) else 'FAILED'}", flush=True)
    for row in rows:
        if not row.holds:
            tell(row)
    for precision in ("fp32", *setting.precisions):
        own = [row for row in rows if row.value is not None and row.what.endswith(precision)]
        if own:
            worst = max(own, key=lambda row: row.value or 0.0)
            tell(
                Row(f"{sum(bool(row.holds) for row in own)} of {len(own)} models, {precision}",
                    worst.value, against="fp32 on the CPU: losses apart by at most",
                    target="as far as bf16 on the CPU", holds=all(row.holds for row in own),
                    note=f"{worst.what.partition(',')[0]}, where {worst.target}")
            )  # fmt: skip
    if left_out:
        note = "they need a language model or given user vectors, or are systems of their own"
        tell(Row(f"{len(left_out)} of {len(names)} left out", note=note))


def _holds(rows: list[Row], name: str) -> bool:
    return all(row.holds for row in rows if row.what.startswith(f"{name},"))


def shipped_recipe(accelerator: Accelerator, shipped: Shipped) -> BricksRecipe:
    """A training of a shipped model whose every step is the same on all devices."""
    model, store, data, profiles = shipped
    train = click_training(len(data))
    recipe = clicks_recipe(accelerator, deepcopy(model), store, data, train, profiles)
    without_chance(recipe.model)
    return recipe


def without_chance(model: nn.Module) -> None:
    """Evaluation mode, without dropout; recurrent layers as in training, as cuDNN demands."""
    model.eval()
    for module in model.modules():
        if isinstance(module, nn.RNNBase):
            module.train()
            module.dropout = 0.0

"""Part ``equal``: steps of all systems in 16 bits on the device, against fp32 on the CPU.

Both sides begin with the same weights and see the same rows. Compared are the losses of a few
steps of the optimizer and the gradients of the first one, over all parameters as one vector.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.systems import (
    Clicks,
    Prompts,
    Texts,
    at_task,
    dire_recipe,
    read_of,
    word_recipe,
)
from benchmarks.shapes import Shape
from legos.systems.cllm4rec.stages import Task
from legos.training.recipe import Recipe
from legos.training.trainer import take_step

STEPS = 3
LOSS = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 5e-3}
"""By how much losses may differ, as a share of themselves."""
GRADIENT = {"fp32": 1e-3, "bf16": 1e-1, "fp16": 2e-2}
"""The length of the difference of gradients, as a share of the gradient's."""
_PAGES = {"DIRE, cached", "DIRE, cached, in pages"}  # one training
_SAME = 1e-5  # as a share of a loss
_TIMES = 3.0  # as far as bf16 on the CPU

Make = Callable[[Accelerator], Recipe]


class Steps(NamedTuple):
    """What a training does.

    Attributes:
        losses: of its first steps.
        gradients: of the first one, clipped, by parameter, on the CPU.
        skipped: whether a step overflowed (fp16).
    """

    losses: list[float]
    gradients: dict[str, Tensor]
    skipped: bool


def steps_of(recipe: Recipe, count: int = STEPS) -> Steps:
    """Take the first steps of a training."""
    gradients: dict[str, Tensor] = {}
    step, losses = recipe.replicas.step, []
    scaler = recipe.replicas.accelerator.scaler
    before = None if scaler is None else scaler.get_scale()

    def keep(name: str) -> None:
        if not gradients:
            for key, parameter in recipe.replicas.trained.named_parameters():
                if parameter.grad is not None:
                    gradients[key] = parameter.grad.detach().float().cpu()
        step(name)

    recipe.replicas.step = keep  # type: ignore[method-assign]
    for _ in range(count):
        losses.append(take_step(recipe)[0]["loss"])
    return Steps(losses, gradients, scaler is not None and scaler.get_scale() < before)


def apart(found: Steps, expected: Steps) -> tuple[float, float]:
    """Relative differences of losses (the largest) and of gradients.

    Raises:
        RuntimeError: one side alone has a gradient of a parameter, or has none at all.
    """
    if found.gradients.keys() != expected.gradients.keys() or not found.gradients:
        names = sorted(found.gradients.keys() ^ expected.gradients.keys())
        raise RuntimeError(f"gradients of other parameters than on the CPU: {names[:5]}")
    losses = max(abs(a - b) / abs(b) for a, b in zip(found.losses, expected.losses, strict=True))
    own, other = (
        torch.cat([each[name].flatten() for name in sorted(each)])
        for each in (found.gradients, expected.gradients)
    )
    return losses, float((own - other).norm() / other.norm())


def cases(setting: Setting) -> Iterator[tuple[str, Make]]:
    """By name what makes a training of every system."""
    sizes = setting.sizes
    language = setting.language(sizes.same)
    clicks = Clicks(language, Shape(60, sizes.clicks, 8), tokens=10, size=32)
    heads = {"num_heads": 4, "dropout": 0}
    yield (
        "NAML",
        lambda to: word_recipe(
            to, clicks, {"name": "cnn", "dropout": 0}, {"name": "additive_attention"}
        ),
    )
    yield (
        "NRMS",
        lambda to: word_recipe(
            to, clicks, {"name": "attention", **heads}, {"name": "self_attention", **heads}
        ),
    )
    layer = sizes.same.layers // 2
    own = {"batch_size": sizes.clicks}
    cached = clicks.states(clicks.titles, layer)
    yield "DIRE, uncut", lambda to: dire_recipe(to, clicks, 0, read_of(0, clicks.titles), **own)
    yield "DIRE, cached", lambda to: dire_recipe(to, clicks, layer, read_of(layer, cached), **own)
    yield (
        "DIRE, cached, in pages",
        lambda to: dire_recipe(to, clicks, layer, read_of(layer, cached), page_size=7, **own),
    )
    described = clicks.states(clicks.described, layer)
    yield (
        "ONCE",
        lambda to: dire_recipe(to, clicks, layer, read_of(layer, described), once=True, **own),
    )
    texts = Texts(language, users=30, items=40, reviews=40, words=24, batch_size=sizes.batch)
    tasks: tuple[Task, ...] = ("collaborative", "content", "recommendation")
    for trained in ("frozen", "lora"):
        for task in tasks:
            yield (
                f"CLLM4Rec, {task}, {trained}",
                lambda to, task=task, trained=trained: at_task(texts.recipe(to, trained), task),
            )
    prompts = Prompts(language, items=60, users=30, batch_size=sizes.batch)
    yield "RecSysLLM, LoRA", prompts.recipe


def compare(
    setting: Setting, name: str, make: Make, tell: Tell, *, rounding: bool = False
) -> Steps | None:
    """Rows of a training in every precision of the device; the CPU's steps.

    ``rounding``: where bf16 on the CPU, too, is further from fp32 than the tolerances allow, as of
    a model whose gradients nearly cancel, the device may be three times as far.
    """
    own, known = (0.0, 0.0), list[Steps]()
    with trying(tell, f"{name}, on the CPU", torch.device("cpu")):
        known.append(steps_of(make(setting.accelerator("fp32", "cpu"))))
        if rounding:
            own = apart(steps_of(make(setting.accelerator("bf16", "cpu"))), known[0])
    if not known:
        return None
    expected = known[0]
    for precision in ("fp32", *setting.precisions):
        if precision == "fp32" and setting.device.type == "cpu":
            continue  # it would be compared with itself
        what = f"{name}, {precision}"
        with trying(tell, what, setting.device):
            found = steps_of(make(setting.accelerator(precision)))
            loss, gradient = apart(found, expected)
            most = LOSS[precision], GRADIENT[precision]
            if precision != "fp32":
                most = max(most[0], _TIMES * own[0]), max(most[1], _TIMES * own[1])
            holds = loss <= most[0] and gradient <= most[1]
            note = f"gradients {gradient:.1e} apart" + (", a step skipped" * found.skipped)
            target = f"at most {most[0]:.2g}, gradients {most[1]:.2g}"
            tell(
                Row(what, loss, against="fp32 on the CPU: losses apart by", target=target,
                    holds=holds and not found.skipped, note=note)
            )  # fmt: skip
    return expected


def equality_part(setting: Setting, tell: Tell) -> None:
    """All cases; that no two of them are the same training under two names."""
    seen: dict[str, Steps] = {}
    for name, make in cases(setting):
        found = compare(setting, name, make, tell)
        if found is not None:
            seen[name] = found
    for row in distinct({name: steps.losses for name, steps in seen.items()}):
        tell(row)


def distinct(losses: Mapping[str, Sequence[float]]) -> Iterator[Row]:
    """A failed row for every two cases of the same losses; those of pages are to be the same."""
    for one, other in combinations(losses, 2):
        same = list(losses[one]) == list(losses[other])
        if {one, other} == _PAGES:
            first, second = losses[one][0], losses[other][0]
            if abs(first - second) > _SAME * abs(second):
                why = f"its first loss, {first:.7g}, is not that of {other}, {second:.7g}"
                yield Row(one, reason=why, holds=False)
        elif same:
            why = f"its losses are those of {other}: both measure the same training"
            yield Row(one, reason=why, holds=False)

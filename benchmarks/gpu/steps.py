"""Part ``steps``: training steps of CLLM4Rec and RecSysLLM beside bare steps of the same model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import closing
from copy import deepcopy
from typing import Any, cast

from accelerate import Accelerator
from torch import Tensor

from benchmarks import cllm4rec, recsysllm_plain
from benchmarks.gpu.outcome import Row, Tell, trying
from benchmarks.gpu.setting import Setting
from benchmarks.gpu.systems import Prompts, Texts, at_task
from benchmarks.recsysllm import usual_length
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.stages import Task
from legos.systems.recsysllm.positions import IGNORE
from legos.training.recipe import Recipe, Segment
from legos.training.trainer import prepared, take_step

PRECISION, GOAL = "bf16", 0.7
_STEPS = 4  # a turn
_CLLM4REC: tuple[tuple[Task, str], ...] = (
    ("content", "frozen"), ("content", "lora"), ("collaborative", "frozen"),
)  # fmt: skip


def steps_part(setting: Setting, tell: Tell) -> None:
    """Whole steps: examples, forward, backward, clipping, optimizer."""
    accelerator = setting.accelerator(PRECISION)
    for task, trained in _CLLM4REC:
        what = f"CLLM4Rec, {task}, {trained}"
        with trying(tell, what, setting.device):
            _tell(setting, tell, what, *_cllm4rec(setting, accelerator, task, trained))
    with trying(tell, "RecSysLLM, LoRA", setting.device):
        _tell(setting, tell, "RecSysLLM, LoRA", *_recsysllm(setting, accelerator))


def taken(recipe: Recipe) -> Callable[[], None]:
    """The same few steps in every call, their examples made ahead as the trainer does."""
    start = recipe.progress

    def run() -> None:
        recipe.progress = deepcopy(start)
        segment = cast(Segment, recipe.segment())._replace(steps=_STEPS, done=0)
        with closing(prepared(recipe, segment)) as ahead:
            for _ in range(_STEPS):
                take_step(recipe, (), ahead)

    return run


Measured = tuple[Callable[[], None], Callable[[], None], int, int]
"""Ours, the bare side, tokens that ours reads, tokens that the bare side reads."""


def _cllm4rec(setting: Setting, accelerator: Accelerator, task: Task, trained: str) -> Measured:
    sizes = setting.sizes
    texts = Texts(
        setting.language(sizes.soft, PRECISION), users=20 * sizes.batch, items=30 * sizes.batch,
        reviews=_STEPS * sizes.batch, words=200, batch_size=sizes.batch,
    )  # fmt: skip
    recipe = at_task(texts.recipe(accelerator, trained), task)
    model: Cllm4Rec = recipe.replicas.bare
    first = cast(Segment, recipe.segment()).first
    batches = [recipe.step(first + at).pieces[0].batch.to(setting.device) for at in range(_STEPS)]
    table = model.backbone.token_table if task == "content" else model.item_head

    def bare() -> None:
        for batch in batches:
            with accelerator.autocast():
                cllm4rec.bare_step(model.backbone, batch, table)
            model.zero_grad()

    tokens = sum(len(batch.tokens.values) for batch in batches)
    return taken(recipe), bare, tokens, tokens


def _recsysllm(setting: Setting, accelerator: Accelerator) -> Measured:
    sizes = setting.sizes
    prompts = Prompts(
        setting.language(sizes.soft, PRECISION), items=sizes.titles, users=sizes.titles // 3,
        batch_size=sizes.batch,
    )  # fmt: skip
    recipe = prompts.recipe(accelerator)
    drawn = [recipe.stream.examples(step) for step in range(_STEPS)]
    most = recipe.train.batch_tokens
    given: Sequence[tuple[Tensor, Tensor, int]] = [
        (each.tokens.to(setting.device), (each.targets != IGNORE).to(setting.device),
         usual_length(each))
        for each in drawn
    ]  # fmt: skip

    def bare() -> None:
        for tokens, predicted, width in given:
            with accelerator.autocast():
                recsysllm_plain.bare_step(recipe.backbone, tokens, predicted, width, most)
            recipe.backbone.zero_grad()

    read = sum(len(tokens) // width * width for tokens, _, width in given)
    return taken(recipe), bare, sum(len(tokens) for tokens, _, _ in given), read


def _tell(
    setting: Setting,
    tell: Tell,
    what: str,
    ours: Callable[[], None],
    bare: Callable[[], None],
    tokens: int,
    read: int,
) -> None:
    seconds: dict[str, Any] = setting.in_turns({"ours": ours, "bare": bare})
    rates = tokens / seconds["ours"], read / seconds["bare"]
    ratio, peak = rates[0] / rates[1], setting.peak_of(ours)
    tell(
        Row(what, rates[0], "tokens/s", "bare forward and backward", rates[1], ratio,
            f"at least {GOAL}", setting.judged(ratio >= GOAL),
            f"{seconds['ours'] / _STEPS:.3g} s a step; at most {peak:.2f} GiB")
    )  # fmt: skip

"""Training examples by step: task prompts and histories with blanks, mixed by chance.

Everything is a function of (seed, step), so that a training goes on after any step as if it had
never been stopped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from legos.data.ragged import offsets_of, stack
from legos.systems.recsysllm.masking import sample_blanks
from legos.systems.recsysllm.positions import Examples, SpecialTokens, build_examples
from legos.systems.recsysllm.tasks.events import (
    HELD_OUT,
    SEPARATOR,
    HorizonSampler,
    choice,
    uniform,
)
from legos.systems.recsysllm.units import Unit, document_of, plain
from legos.systems.recsysllm.world import World

if TYPE_CHECKING:
    from legos.config.train_schema import TrainConfig

_INFILL, _USER, _SPANS = 72, 73, 74  # keys of random numbers
_FOR_TEXT = 0.8  # of the most tokens; the rest is for masks and [START]s


class TrainingStream:
    """Examples of every step.

    Args:
        world: tables and tokenizer.
        special: tokens of the backbone.
        train: ``exp.train``; a step has ``batch_size`` times ``acc_batch`` examples.

    Attributes:
        mixture: of all task families.
        size: examples of a step.
        steps_per_epoch: steps after which a training is measured.

    Raises:
        ConfigError: no family has both a weight and examples, or windows in days where times are
            unknown.
    """

    def __init__(self, world: World, special: SpecialTokens, train: TrainConfig) -> None:
        self._world, self._special, self._seed = world, special, train.seed
        self.mixture = world.families.mixture()
        self.size, self._share = train.batch_size * train.acc_batch, train.infill_share
        self.steps_per_epoch = train.epoch_steps or max(1, -(-len(self.mixture) // self.size))
        if self._share:
            self._windows = HorizonSampler(
                world.families.sequences.times,
                held_out=HELD_OUT,
                settings=world.settings.tasks.horizons,
                seed=train.seed,
            )
            self._readers = self._windows.usable()
            if not len(self._readers):
                self._share = 0.0

    def examples(self, step: int) -> Examples:
        """The examples of a step (from 0) on the CPU, histories after prompts."""
        world = self._world
        rows = torch.arange(step * self.size, (step + 1) * self.size)
        draw = uniform(rows, 1, _INFILL, seed=self._seed, epoch=0)[:, 0]
        prompts, histories = rows[draw >= self._share], rows[draw < self._share]
        parts = []
        if len(prompts):
            instances = self.mixture.batch(prompts, epoch=step // self.steps_per_epoch)
            parts.append(world.examples(instances, self._special))
        if len(histories):
            parts.append(self._histories(histories, step))
        return join_examples(parts)

    def history(self, row: int, events: Sequence[int], *, arrow: bool) -> list[Unit]:
        """What a user did, as a document.

        Args:
            row: of the sequences.
            events: which of the user's.
            arrow: between them instead of a comma.
        """
        families = self._world.families
        user = int(families.sequences.users[row])
        items = families.sequences.items.row(row)[events].tolist()
        return document_of(
            [
                [plain("Customer:")],
                families.catalogue.user(user),
                [plain(".", space=False), plain("History:")],
                families.catalogue.history(items, arrow=arrow),
                [plain(".", space=False)],
            ]
        )

    def _histories(self, rows: Tensor, step: int) -> Examples:
        """A window of a user's past with blanks for each of ``rows`` ``(n,)``."""
        world, key = self._world, {"seed": self._seed, "epoch": 0}
        readers = self._readers[choice(rows, len(self._readers), _USER, **key)]
        events = self._windows.draw(readers, epoch=step).events
        arrows = uniform(rows, 1, SEPARATOR, **key)[:, 0] < 0.5
        written = [
            self.history(reader, events.select(torch.tensor([at])).values.tolist(), arrow=arrow)
            for at, (reader, arrow) in enumerate(
                zip(readers.tolist(), arrows.tolist(), strict=True)
            )
        ]
        positions = world.settings.positions
        documents = world.tokenizer.encode(written).truncated(int(positions.max_tokens * _FOR_TEXT))
        blanks = sample_blanks(
            documents,
            rows,
            world.settings.masking,
            seed=self._seed,
            epoch=0,
            max_tokens=positions.max_tokens - positions.prepend_cls,
        )
        count = torch.arange(len(blanks.ranges.values))
        order = uniform(count, 1, _SPANS, seed=self._seed, epoch=step)[:, 0]
        return build_examples(
            documents, blanks, self._special, positions,
            world.automaton, span_order=order if positions.shuffle_spans else None,
        )  # fmt: skip


def join_examples(parts: Sequence[Examples]) -> Examples:
    """Examples one after the other; at least one part."""
    lengths = torch.cat([part.lengths for part in parts])
    names = ("tokens", "targets", "inter", "intra", "prompt_lengths")
    columns = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
    masks = stack([part.masks for part in parts])
    return Examples(**columns, offsets=offsets_of(lengths), masks=masks)

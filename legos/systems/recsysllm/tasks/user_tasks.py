"""Task families about users: sequential and direct recommendation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.catalogue import Catalogue
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, Template
from legos.systems.recsysllm.settings import SplitName, TaskSettings
from legos.systems.recsysllm.tasks.candidates import Candidates
from legos.systems.recsysllm.tasks.events import (
    EVALUATION,
    EVENT,
    HELD_OUT,
    SEPARATOR,
    TEMPLATE,
    VERDICT,
    WIDTH,
    HorizonSampler,
    Sequences,
    choice,
    permutation,
    random_bits,
    uniform,
    unseen_items,
)
from legos.systems.recsysllm.units import Unit, plain


def next_item_prompts(
    template: Template,
    catalogue: Catalogue,
    readers: Sequence[tuple[int, Sequence[int]]],
    numbers: Tensor,
    *,
    most: int,
    seed: int,
) -> list[Instance]:
    """Prompts that ask for the next item of readers, as a test asks them.

    Args:
        template: whose answer is an item among all.
        readers: each the number of a user and the items of their past, oldest first.
        numbers: ``(B,)`` int64 rows of the sequences, which draws of a test are of.
        most: newest items of a past that are told.

    Raises:
        ConfigError: somebody has no past.
    """
    arrows = uniform(numbers, 1, SEPARATOR, seed=seed, epoch=EVALUATION)[:, 0] < 0.5
    made = []
    for (user, past), arrow in zip(readers, arrows.tolist(), strict=True):
        if not past:
            raise ConfigError(f"prompt {template.name}: a reader without history; give an item")
        history = catalogue.history(past[-most:], arrow=arrow)
        prompt = catalogue.fill(template, {"history": history}, user=user)
        any_item = past[-1]  # the answer is not read
        answer, reference = catalogue.item(any_item), catalogue.items[any_item]
        made.append(Instance(template, prompt, answer, reference, user, any_item))
    return made


class UserTask(ABC):
    """Examples of one family about users: several per user and epoch, by group of intents."""

    family: ClassVar[Family]

    def __init__(
        self,
        sequences: Sequences,
        catalogue: Catalogue,
        prompts: Prompts,
        settings: TaskSettings,
        *,
        seed: int,
    ) -> None:
        self.sequences, self.catalogue, self.prompts = sequences, catalogue, prompts
        self.settings, self.seed = settings, seed
        self.seen, self.trained = sequences.seen(), sequences.seen("valid")
        left = sequences.num_items - max(self.trained.lengths.tolist(), default=0)
        self._list_sizes = [min(count, max(1, left)) for count in settings.num_negatives]
        self._groups = [
            templates
            for intent, count in self._samples().items()
            for templates in [prompts.of(self.family, seen=True, intent=intent)] * count
            if templates
        ]
        self._users = self._usable()

    def __len__(self) -> int:
        """Training examples of an epoch."""
        return self._users.numel() * len(self._groups)

    def train(self, numbers: Tensor, *, epoch: int) -> list[Instance]:
        """Training examples by number ``(B,)``; a function of (seed, epoch, number)."""
        rows, samples = self._users[numbers // len(self._groups)], numbers % len(self._groups)
        groups = [self._groups[sample] for sample in samples.tolist()]
        limits = torch.tensor([len(group) for group in groups])
        nth = choice(numbers, limits, TEMPLATE, seed=self.seed, epoch=epoch).tolist()
        templates = [group[at] for group, at in zip(groups, nth, strict=True)]
        pasts, targets = self._training_events(rows, numbers, samples, epoch=epoch)
        lists = torch.tensor(["candidates" in template.slots for template in templates])
        negatives = self._negatives(self.trained.select(rows), numbers, lists, epoch=epoch)
        return self._made(rows, numbers, templates, pasts, targets, negatives, epoch=epoch)

    def evaluate(
        self, rows: Tensor, name: str, split: SplitName, candidates: Candidates | None = None
    ) -> list[Instance]:
        """Examples of a held-out split with one template.

        Args:
            rows: ``(B,)`` int64 of the sequences.
            name: template; a question of yes or no is about the target or one item never had, half
                each.
            candidates: frozen ones, needed where the template lists candidates.

        Raises:
            ConfigError: the template is of another family, or candidates are missing.
            DataError: candidates of something else.
        """
        template = self.prompts.named(name, self.family)
        targets = self.sequences.targets(split)[rows]
        pasts = [self._items(row)[: -1 if split == "test" else -2] for row in rows.tolist()]
        if "candidates" not in template.slots:
            none = torch.zeros(len(rows), dtype=torch.bool)
            negatives = self._negatives(self.seen.select(rows), rows, none, epoch=EVALUATION)
        elif candidates is None:
            raise ConfigError(f"prompt {name!r} lists candidates; expected frozen ones")
        elif not torch.equal(candidates.items[rows, 0].long(), targets):
            raise DataError(f"candidates are not those of split {split!r} of these sequences")
        else:
            negatives = candidates.items[rows, 1:].long()
        templates = [template] * len(rows)
        return self._made(rows, rows, templates, pasts, targets, negatives, epoch=EVALUATION)

    @abstractmethod
    def _samples(self) -> Mapping[str, int]:
        """Examples of a user and epoch by intent."""

    @abstractmethod
    def _usable(self) -> Tensor:
        """Rows of the sequences with something to train on: ``(n,)`` int64."""

    @abstractmethod
    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        """Pasts and targets of training examples, none of them held out."""

    def _items(self, row: int) -> list[int]:
        items: list[int] = self.sequences.items.row(row).tolist()
        return items

    def _negatives(self, seen: Ragged, numbers: Tensor, lists: Tensor, *, epoch: int) -> Tensor:
        """``(B, n)`` different items, none of ``seen`` (B rows of items); n is the most of a list.

        In training only the training events of a user are excluded: were the held-out ones
        excluded too, "never a negative" would give the answer away. Where ``lists`` ``(B,)`` is
        not set only the first is drawn, and the columns after it, which nothing reads, repeat it.
        """
        items, key = self.sequences.num_items, {"seed": self.seed, "epoch": epoch}
        first = unseen_items(numbers, seen, num_items=items, count=1, **key)
        count = max(self._list_sizes) if bool(lists.any()) else 1
        negatives = first.repeat(1, count)
        if count > 1:
            at = lists.nonzero()[:, 0]
            negatives[at] = unseen_items(
                numbers[at], seen.select(at), num_items=items, count=count, **key
            )
        return negatives

    def _made(
        self,
        rows: Tensor,
        numbers: Tensor,
        templates: Sequence[Template],
        pasts: Sequence[Sequence[int]],
        targets: Tensor,
        negatives: Tensor,
        *,
        epoch: int,
    ) -> list[Instance]:
        key = {"seed": self.seed, "epoch": epoch}
        verdicts = uniform(numbers, 1, VERDICT, **key)[:, 0] < 0.5
        arrows = (uniform(numbers, 1, SEPARATOR, **key)[:, 0] < 0.5).tolist()
        mixed = torch.cat([targets[:, None], negatives], 1)  # (B, 1 + n)
        order = permutation(numbers, mixed.shape[1], **key)
        shuffled, shown = mixed.gather(1, order), order < self._widths(numbers, mixed, **key)
        offered = torch.where(verdicts, targets, negatives[:, 0]).tolist()
        users, most = self.sequences.users[rows].tolist(), self.settings.max_past
        made = []
        for at, template in enumerate(templates):
            target = int(targets[at])
            item = offered[at] if template.answer == "verdict" else target
            past = pasts[at][-most:] if "history" in template.slots else []
            chosen = shuffled[at][shown[at]].tolist() if "candidates" in template.slots else []
            listed, right = tuple(chosen), None if epoch == EVALUATION else item
            values = {
                "item": self.catalogue.item(item),
                "history": self.catalogue.history(past, arrow=arrows[at]),
                "candidates": self.catalogue.candidates(listed, right=right, past=len(past)),
            }
            prompt = self.catalogue.fill(template, values, user=users[at], item=item)
            answer: Sequence[Unit] = self.catalogue.item(item)
            reference = self.catalogue.items[item]
            if template.answer == "verdict":
                reference = "yes" if item == target else "no"
                answer = [plain(reference)]
            made.append(
                Instance(template, prompt, answer, reference, users[at], item, candidates=listed)
            )
        return made

    def _widths(self, numbers: Tensor, mixed: Tensor, *, seed: int, epoch: int) -> Tensor:
        """``(B, 1)`` or ``(1,)`` int64 how many of the columns of ``mixed`` a list shows."""
        if epoch == EVALUATION:
            return torch.tensor([mixed.shape[1]])
        counts = torch.tensor(self._list_sizes)
        drawn = choice(numbers, len(counts), WIDTH, seed=seed, epoch=epoch)
        return 1 + counts[drawn][:, None]


_LATE, _EARLY = 4, 3  # P5: a target among the last four, a start among the first three


class SequentialTask(UserTask):
    """Examples of family ``sequential``.

    In training a late event is asked for, or the last one of a window of the past; in valid and
    test the held-out event after everything before it.
    """

    family: ClassVar[Family] = "sequential"

    def _samples(self) -> Mapping[str, int]:
        own = self.settings
        return {"next": own.next_samples, "choose": own.choose_samples, "will": own.will_samples}

    def _usable(self) -> Tensor:
        if self.settings.history == "p5":
            return (self.sequences.items.lengths - HELD_OUT >= 2).nonzero()[:, 0]
        times, own = self.sequences.times, self.settings.horizons
        self._windows = HorizonSampler(times, held_out=HELD_OUT, settings=own, seed=self.seed)
        return self._windows.usable()

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        if self.settings.history == "p5":
            pasts = self._as_p5(rows, numbers, epoch=epoch)
        else:
            pasts = [[] for _ in range(len(rows))]
            for sample in samples.unique().tolist():  # a window is drawn for (epoch, sample, user)
                at = (samples == sample).nonzero()[:, 0]
                number = epoch * len(self._groups) + sample
                events = self._windows.draw(rows[at], epoch=number).events
                for nth, example in enumerate(at.tolist()):
                    items = self.sequences.items.row(int(rows[example]))
                    pasts[example] = items[events.row(nth)].tolist()
        return [past[:-1] for past in pasts], torch.tensor([past[-1] for past in pasts])

    def _as_p5(self, rows: Tensor, numbers: Tensor, *, epoch: int) -> list[list[int]]:
        trained = self.sequences.items.lengths[rows] - HELD_OUT
        bits = random_bits(numbers, 2, EVENT, seed=self.seed, epoch=epoch)
        targets = trained - 1 - bits[:, 0] % (trained - 1).clamp(max=_LATE)
        starts = bits[:, 1] % targets.clamp(max=_EARLY)
        return [
            self._items(row)[start : target + 1]
            for row, start, target in zip(
                rows.tolist(), starts.tolist(), targets.tolist(), strict=True
            )
        ]


class DirectTask(UserTask):
    """Examples of family ``direct``: in training about any training event of the user."""

    family: ClassVar[Family] = "direct"

    def _samples(self) -> Mapping[str, int]:
        own = self.settings
        return {"will": own.direct_will_samples, "choose": own.direct_choose_samples}

    def _usable(self) -> Tensor:
        return (self.sequences.items.lengths > HELD_OUT).nonzero()[:, 0]

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        items = self.sequences.items
        nth = choice(numbers, items.lengths[rows] - HELD_OUT, EVENT, seed=self.seed, epoch=epoch)
        return [[] for _ in range(len(rows))], items.values[items.offsets[rows] + nth]

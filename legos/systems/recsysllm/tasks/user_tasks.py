"""What the families about users share: sequential and direct recommendation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, Template
from legos.systems.recsysllm.settings import SplitName, TaskSettings
from legos.systems.recsysllm.tasks.candidates import Candidates
from legos.systems.recsysllm.tasks.catalogue import Catalogue
from legos.systems.recsysllm.tasks.events import (
    EVALUATION,
    EVENT,
    HELD_OUT,
    SEPARATOR,
    TEMPLATE,
    VERDICT,
    HorizonSampler,
    Sequences,
    choice,
    permutation,
    random_bits,
    uniform,
    unseen_items,
)
from legos.systems.recsysllm.units import Unit, plain


class UserTask:
    """Examples of one family about users: several a user and epoch, by group of intents.

    Args:
        sequences: what users did.
        catalogue: names of items and users.
        prompts: templates.
        settings: how.
        seed: of the run.
    """

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
        self.seen, self.trained = sequences.seen(), sequences.seen(held_out=False)
        self._groups = [
            templates
            for intent, count in self._samples().items()
            for templates in [prompts.of(self.family, seen=True, intents=[intent])] * count
            if templates
        ]
        self._users = self._usable()

    def __len__(self) -> int:
        """Training examples of an epoch."""
        return self._users.numel() * len(self._groups)

    def train(self, numbers: Tensor, *, epoch: int) -> list[Instance]:
        """Training examples by number ``(B,)``; a function of (seed, epoch, number)."""
        rows = self._users[numbers // len(self._groups)]
        samples = numbers % len(self._groups)
        limits = torch.tensor([len(self._groups[sample]) for sample in samples.tolist()])
        nth = choice(numbers, limits, TEMPLATE, seed=self.seed, epoch=epoch)
        templates = [
            self._groups[sample][column]
            for sample, column in zip(samples.tolist(), nth.tolist(), strict=True)
        ]
        pasts, targets = self._training_events(rows, numbers, samples, epoch=epoch)
        lists = torch.tensor(["candidates" in template.slots for template in templates])
        negatives = self._negatives(self.trained.select(rows), numbers, lists, epoch=epoch)
        return self._made(
            rows, numbers, templates, pasts, targets, negatives, epoch=epoch, whole_lists=False
        )

    def evaluate(
        self, numbers: Tensor, name: str, split: SplitName, candidates: Candidates | None = None
    ) -> list[Instance]:
        """Examples of a held-out split with one template.

        Args:
            numbers: ``(B,)`` int64 rows of the sequences; for questions of yes or no with
                candidates, ``row * (1 + n) + candidate``.
            name: template.
            split: ``valid`` or ``test``.
            candidates: frozen ones, needed where the template lists candidates; with them a
                question of yes or no is asked about every candidate, without about the target or
                one item never had, half each.

        Raises:
            ConfigError: the template is of another family, or candidates are missing.
        """
        template = self.prompts.named(name, self.family)
        if "candidates" in template.slots and candidates is None:
            raise ConfigError(f"prompt {name!r} lists candidates; expected frozen ones")
        if candidates is not None:
            self._refuse_others(candidates, split)
        every = template.answer == "verdict" and candidates is not None
        width = candidates.items.shape[1] if candidates is not None else 1
        rows = numbers // width if every else numbers
        targets = self.sequences.targets(split)[rows]
        end = -1 if split == "test" else -2
        pasts = [self._items(row)[:end] for row in rows.tolist()]
        if candidates is None:
            one = torch.zeros(len(rows), dtype=torch.bool)
            seen = self.seen.select(rows)
            negatives = self._negatives(seen, numbers, one, epoch=EVALUATION)
        else:
            negatives = candidates.items[rows, 1:].long()
        offered = None
        if every and candidates is not None:
            offered = candidates.items[rows, numbers % width].long()
        return self._made(
            rows, numbers, [template] * len(rows), pasts, targets, negatives,
            epoch=EVALUATION, offered=offered,
        )  # fmt: skip

    def _samples(self) -> Mapping[str, int]:
        """Examples of a user and epoch by intent."""
        raise NotImplementedError

    def _usable(self) -> Tensor:
        """Rows of the sequences with something to train on: ``(n,)`` int64."""
        raise NotImplementedError

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        """Pasts and targets of training examples, none of them held out."""
        raise NotImplementedError

    def _refuse_others(self, candidates: Candidates, split: SplitName) -> None:
        targets = self.sequences.targets(split)
        same = candidates.users.tolist() == self.sequences.users.tolist()
        if not same or candidates.items[:, 0].tolist() != targets.tolist():
            raise DataError(f"candidates are not those of split {split!r} of these sequences")

    def _items(self, row: int) -> list[int]:
        found: list[int] = self.sequences.items.row(row).tolist()
        return found

    def _negatives(self, seen: Ragged, numbers: Tensor, lists: Tensor, *, epoch: int) -> Tensor:
        """``(B, num_negatives)`` different items, none of ``seen`` (B rows of items).

        In training only the training events of a user are excluded: were the held-out ones
        excluded too, "never a negative" would give the answer away. Where ``lists`` ``(B,)`` is
        not set only the first is drawn, and the columns after it, which nothing reads, repeat it.
        """
        items, key = self.sequences.num_items, {"seed": self.seed, "epoch": epoch}
        first = unseen_items(numbers, seen, num_items=items, count=1, **key)
        count = self.settings.num_negatives if bool(lists.any()) else 1
        found = first.repeat(1, count)
        if count > 1:
            at = lists.nonzero()[:, 0]
            found[at] = unseen_items(
                numbers[at], seen.select(at), num_items=items, count=count, **key
            )
        return found

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
        offered: Tensor | None = None,
        whole_lists: bool = True,
    ) -> list[Instance]:
        key = {"seed": self.seed, "epoch": epoch}
        verdicts = uniform(numbers, 1, VERDICT, **key)[:, 0] < 0.5
        arrows = uniform(numbers, 1, SEPARATOR, **key)[:, 0] < 0.5
        mixed = torch.cat([targets[:, None], negatives], 1)  # (B, 1 + n)
        shuffled = mixed.gather(1, permutation(numbers, mixed.shape[1], **key))
        if offered is None:
            offered = torch.where(verdicts, targets, negatives[:, 0])
        found = []
        for at, template in enumerate(templates):
            lists = "candidates" in template.slots
            item = int(offered[at] if template.answer == "verdict" else targets[at])
            candidates = tuple(shuffled[at].tolist()) if lists else ()
            past = list(pasts[at])[-self.settings.horizons.max_items :]
            found.append(
                self._instance(
                    template, int(self.sequences.users[rows[at]]), item, past, candidates,
                    right=item == int(targets[at]), arrow=bool(arrows[at]),
                    whole_list=whole_lists,
                )
            )  # fmt: skip
        return found

    def _instance(
        self,
        template: Template,
        user: int,
        item: int,
        past: Sequence[int],
        candidates: tuple[int, ...],
        *,
        right: bool,
        arrow: bool,
        whole_list: bool,
    ) -> Instance:
        named: set[int] = {item, *candidates}
        values: dict[str, Sequence[Unit]] = {
            "user": self.catalogue.user(user),
            "user_name": self.catalogue.user(user),
            "item": self.catalogue.item(item),
            "candidates": self.catalogue.candidates(
                candidates, right=None if whole_list else item, past=len(past)
            ),
        }
        if "history" in template.slots:
            values["history"] = self.catalogue.history(past, arrow=arrow)
            named |= set(past)
        if template.answer == "verdict":
            reference = "yes" if right else "no"
            answer: Sequence[Unit] = [plain(reference)]
        else:
            answer, reference = self.catalogue.item(item), self.catalogue.items[item]
        return Instance(
            template, template.fill(values), answer, reference, user, item,
            candidates=candidates, shown=tuple(sorted(named)),
        )  # fmt: skip


_LATE, _EARLY = 4, 3  # P5: a target among the last four, a start among the first three


class SequentialTask(UserTask):
    """Examples of family ``sequential``.

    In training the last event of a window of the past is asked for; in valid and test the held-out
    event after everything before it.
    """

    family: ClassVar[Family] = "sequential"

    def _samples(self) -> Mapping[str, int]:
        own = self.settings
        return {"next": own.next_samples, "choose": own.choose_samples, "will": own.will_samples}

    def _usable(self) -> Tensor:
        if self.settings.history == "p5":
            return (self.sequences.items.lengths - HELD_OUT >= 2).nonzero()[:, 0]
        self._windows = HorizonSampler(
            self.sequences.times,
            held_out=HELD_OUT,
            settings=self.settings.horizons,
            seed=self.seed,
        )
        return self._windows.usable()

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        if self.settings.history == "p5":
            pasts = self._as_p5(rows, numbers, epoch=epoch)
        else:
            pasts = [[] for _ in range(len(rows))]
            for sample in samples.unique().tolist():  # a window is drawn for (epoch, sample, user)
                places = (samples == sample).nonzero()[:, 0]
                drawn = self._windows.draw(
                    rows[places], epoch=epoch * len(self._groups) + sample
                ).events
                for number, (place, row) in enumerate(
                    zip(places.tolist(), rows[places].tolist(), strict=True)
                ):
                    items = self._items(row)
                    pasts[place] = [items[event] for event in drawn.row(number).tolist()]
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
        return {
            "will": self.settings.direct_will_samples,
            "choose": self.settings.direct_choose_samples,
        }

    def _usable(self) -> Tensor:
        return (self.sequences.items.lengths > HELD_OUT).nonzero()[:, 0]

    def _training_events(
        self, rows: Tensor, numbers: Tensor, samples: Tensor, *, epoch: int
    ) -> tuple[list[list[int]], Tensor]:
        trained = self.sequences.items.lengths[rows] - HELD_OUT
        places = choice(numbers, trained, EVENT, seed=self.seed, epoch=epoch)
        begins = self.sequences.items.offsets[rows]
        nothing: list[list[int]] = [[] for _ in range(len(rows))]
        return nothing, self.sequences.items.values[begins + places]

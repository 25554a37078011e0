"""Reviews and the tasks made of them: ratings, explanations, headlines, another domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from legos.data.reviews import Reviews
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.systems.recsysllm.catalogue import Catalogue
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, Template
from legos.systems.recsysllm.settings import ReviewSplit, SplitName, TaskSettings
from legos.systems.recsysllm.tasks.events import (
    EVALUATION,
    JITTER,
    STARS,
    TEMPLATE,
    VERDICT,
    choice,
    normal,
    uniform,
)
from legos.systems.recsysllm.tasks.explanations import Explanation
from legos.systems.recsysllm.units import Unit, plain

LIKED = 4  # stars from which on an item is liked (P5)
MOST_STARS = 5
SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")
_SPLIT_KEY = 60  # of random numbers
_TRAIN_SHARE = 0.8  # P5
_ANSWER_NEEDS: Mapping[str, frozenset[str]] = {
    "stars": frozenset({"stars"}),
    "whole-stars": frozenset({"stars"}),
    "verdict": frozenset({"stars"}),
    "liking": frozenset({"stars"}),
    "explanation": frozenset({"explanation"}),
    "stars-explanation": frozenset({"stars", "explanation"}),
    "headline": frozenset({"headline"}),
}


@dataclass(frozen=True)
class ReviewRows:
    """R reviews of all splits.

    Attributes:
        users, items: ``(R,)`` int64.
        ratings: ``(R,)`` float32 stars, NaN = unknown.
        splits: ``(R,)`` int64 row of ``SPLITS``.
        headlines: R texts, "" where there is none.
        bodies: R texts, the same.
        explanations: R sentences with feature words, None where nothing was found.
    """

    users: Tensor
    items: Tensor
    ratings: Tensor
    splits: Tensor
    headlines: Sequence[str]
    bodies: Sequence[str]
    explanations: Sequence[Explanation | None]

    def __len__(self) -> int:
        return self.users.numel()

    @classmethod
    def from_tables(cls, tables: Tables, *, split: ReviewSplit, seed: int) -> ReviewRows:
        """All reviews of tables, without explanations.

        Raises:
            DataError: there are no reviews, or a training one is of a held-out pair.
        """
        parts = [Reviews.from_tables(tables, name) for name in SPLITS]
        headlines, bodies = (
            [text for part in parts for text in part.texts.get(name, [""] * len(part))]
            for name in ("headline", "review")
        )
        users, items = (torch.cat([getattr(part, n) for part in parts]) for n in ("users", "items"))
        splits = torch.arange(len(SPLITS)).repeat_interleave(torch.tensor([len(p) for p in parts]))
        if split == "p5":
            splits = random_split(users, items, seed=seed)
        ratings = torch.cat([part.ratings for part in parts])
        return cls(users, items, ratings, splits, headlines, bodies, [None] * len(users))

    def of(self, split: SplitName) -> Tensor:
        """``(n,)`` int64 rows of a split."""
        return (self.splits == SPLITS.index(split)).nonzero()[:, 0]

    def train_mean(self) -> float:
        """Mean of the known training ratings; 3 where there is none."""
        known = self.ratings[self.of("train")]
        known = known[~known.isnan()]
        return float(known.double().mean()) if len(known) else 3.0


def random_split(users: Tensor, items: Tensor, *, seed: int) -> Tensor:
    """80/10/10 at random, every user and item at least once in train.

    Users and items ``(R,)`` int64 of each review -> ``(R,)`` int64 row of ``SPLITS``.
    """
    count = users.numel()
    order = keyed_bits(torch.arange(count), 1, _SPLIT_KEY, seed)[:, 0].argsort()
    needed = torch.zeros(count, dtype=torch.bool)
    for column in (users[order], items[order]):
        first = torch.full((int(column.max()) + 1 if count else 0,), count)
        first.scatter_reduce_(0, column, torch.arange(count), "amin")
        needed[first[first < count]] = True
    arranged = torch.cat([order[needed], order[~needed]])  # those that train needs come first
    train = max(round(_TRAIN_SHARE * count), int(needed.sum()))
    valid = (count - train + 1) // 2
    splits = torch.full((count,), SPLITS.index("test"))
    splits[arranged[: train + valid]] = SPLITS.index("valid")
    splits[arranged[:train]] = SPLITS.index("train")
    return splits


class ReviewTask:
    """Examples of one family from reviews: one per review and epoch.

    Args:
        known: ``(U,)`` bool: users of both domains, the only ones that P5 asks about another
            domain; everyone is asked where there is none, and without it.
    """

    def __init__(
        self,
        family: Family,
        rows: ReviewRows,
        catalogue: Catalogue,
        prompts: Prompts,
        settings: TaskSettings,
        *,
        seed: int,
        known: Tensor | None = None,
    ) -> None:
        self.family, self.rows, self.catalogue, self.prompts = family, rows, catalogue, prompts
        self.settings, self.seed = settings, seed
        self.known = known if known is not None and bool(known.any()) else None
        self.templates = prompts.of(family)
        explained = torch.tensor([one is not None for one in rows.explanations], dtype=torch.bool)
        there = {  # (R,) bool each: what a review may lack
            "stars": ~rows.ratings.isnan(),
            "headline": _are_there(rows.headlines),
            "body": _are_there(rows.bodies),
            "feature": explained,
            "explanation": explained,
            "price": _are_there(catalogue.prices)[rows.items],
            "brand": _are_there(catalogue.brands)[rows.items],
        }
        needs = [(t.slots | _ANSWER_NEEDS[t.answer]) & there.keys() for t in self.templates]
        every = torch.ones(len(rows), dtype=torch.bool)
        usable = [torch.stack([every, *map(there.__getitem__, need)]).all(0) for need in needs]
        self.usable = torch.stack(usable, 1)  # (R, templates)
        seen = torch.tensor([template.seen for template in self.templates], dtype=torch.bool)
        self._trainable = self.usable & seen
        train = rows.of("train")
        self._train_rows = train[self._trainable[train].any(1)]

    def __len__(self) -> int:
        """Training examples of an epoch."""
        return self._train_rows.numel()

    def train(self, numbers: Tensor, *, epoch: int) -> list[Instance]:
        """Training examples by number ``(B,)``; a function of (seed, epoch, number)."""
        reviews = self._train_rows[numbers]
        able = self._trainable[reviews]
        nth = choice(reviews, able.sum(1), TEMPLATE, seed=self.seed, epoch=epoch)
        column = ((able.cumsum(1) == nth[:, None] + 1) & able).int().argmax(1)
        return self._made(reviews, column.tolist(), epoch=epoch)

    def evaluation_rows(self, split: SplitName, name: str) -> Tensor:
        """``(n,)`` int64 reviews of a split, by ``known`` users, that have what a template needs.

        Raises:
            ConfigError: the template is of another family or unknown.
        """
        rows = self.rows.of(split)
        rows = rows[self.usable[rows, self._column(name)]]
        return rows if self.known is None else rows[self.known[self.rows.users[rows]]]

    def evaluate(self, reviews: Tensor, name: str) -> list[Instance]:
        """Examples of some ``evaluation_rows`` with one template; ratings without jitter."""
        return self._made(reviews, [self._column(name)] * len(reviews), epoch=EVALUATION)

    def _column(self, name: str) -> int:
        return self.templates.index(self.prompts.named(name, self.family))

    def _made(self, reviews: Tensor, columns: Sequence[int], *, epoch: int) -> list[Instance]:
        key = {"seed": self.seed, "epoch": epoch}
        noise = normal(reviews, JITTER, **key).tolist()
        rightly = (uniform(reviews, 1, VERDICT, **key)[:, 0] < 0.5).tolist()
        wrong = choice(reviews, MOST_STARS - 1, STARS, **key).tolist()
        made = []
        for at, (row, column) in enumerate(zip(reviews.tolist(), columns, strict=True)):
            template, rows = self.templates[column], self.rows
            user, item = int(rows.users[row]), int(rows.items[row])
            stars, values = float(rows.ratings[row]), self._values(row, template.slots)
            off = None if epoch == EVALUATION else self.settings.rating_jitter * noise[at]
            reference = self._answer(row, template, off)
            if template.answer == "verdict":  # a claim: right in half of all cases, else any other
                others = [other for other in range(1, MOST_STARS + 1) if other != round(stars)]
                claimed = round(stars) if rightly[at] else others[wrong[at]]
                values["stars"] = [plain(str(claimed))]
                reference = "yes" if rightly[at] else "no"
            prompt = self.catalogue.fill(template, values, user=user, item=item)
            answer = [plain(reference)]
            one = rows.explanations[row]
            feature = "" if one is None else one.feature
            made.append(
                Instance(
                    template, prompt, answer, reference, user, item, stars=stars, feature=feature
                )
            )
        return made

    def _answer(self, row: int, template: Template, off: float | None) -> str:
        """The answer as text; ``off``: noise on a rating, in training."""
        stars, one = float(self.rows.ratings[row]), self.rows.explanations[row]
        sentence = "" if one is None else one.sentence
        match template.answer:
            case "stars" if off is not None:  # one decimal with noise that rounds to the truth (P5)
                noisy = stars + max(-0.4, min(0.4, off))
                return f"{max(1.0, min(float(MOST_STARS), noisy)):.1f}"
            case "stars" | "whole-stars":
                return str(round(stars))
            case "liking":
                return "like" if stars >= LIKED else "dislike"
            case "explanation":
                return sentence
            case "stars-explanation":
                return f"{round(stars)} , {sentence}"
            case _:
                return self.rows.headlines[row].strip()

    def _values(self, row: int, slots: frozenset[str]) -> dict[str, Sequence[Unit]]:
        """Values of a review for the slots of a template, except those of the user."""
        rows, catalogue = self.rows, self.catalogue
        item, one = int(rows.items[row]), rows.explanations[row]

        def value(name: str) -> Sequence[Unit]:
            match name:
                case "item":
                    return catalogue.item(item)
                case "brand":
                    return catalogue.brand(item)
                case "price":
                    return [plain(catalogue.prices[item])]
                case "stars":
                    return [plain(str(round(float(rows.ratings[row]))))]
                case "headline":
                    return [plain(rows.headlines[row])]
                case "feature":
                    return [plain("" if one is None else one.feature)]
                case _:
                    words = rows.bodies[row].split()[: self.settings.max_body_words]
                    return [plain(" ".join(words))]

        return {name: value(name) for name in slots - {"user", "user_name"}}


def _are_there(texts: Sequence[str]) -> Tensor:
    return torch.tensor([bool(text.strip()) for text in texts], dtype=torch.bool)

"""Reviews and tasks about them: rating, explanation, review texts, items of another domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isnan

import torch
from torch import Tensor

from legos.data.reviews import Reviews
from legos.data.sampling import keyed_bits
from legos.data.tables import Tables
from legos.errors import DataError
from legos.systems.recsysllm.explanations import Explanation
from legos.systems.recsysllm.prompts import Family, Instance, Prompts, Template
from legos.systems.recsysllm.settings import ReviewSplit, SplitName, TaskSettings
from legos.systems.recsysllm.tasks.catalogue import Catalogue
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
from legos.systems.recsysllm.units import Unit, plain

LIKED = 4  # stars from which on an item is liked (P5)
MOST_STARS = 5


@dataclass(frozen=True)
class Draw:
    """Random numbers of one example.

    Attributes:
        training: ratings have noise in training alone; claims are drawn in evaluation too.
        noise: of the standard normal distribution.
        claim: uniform in (0, 1): below .5 a claimed rating is right.
        wrong: 0 to 3: which of the other four ratings a wrong claim names.
    """

    training: bool
    noise: float
    claim: float
    wrong: int

    def claimed(self, stars: int) -> int:
        """A claimed rating: right in half of all cases, else any of the other four."""
        if self.claim < 0.5:
            return stars
        return [other for other in range(1, MOST_STARS + 1) if other != stars][self.wrong]


class ReviewTask:
    """Examples of one family out of reviews: one a review and epoch.

    Args:
        family: ``rating``, ``explanation``, ``review`` or ``transfer``.
        rows: reviews with their splits.
        catalogue: names of items and users.
        prompts: templates.
        settings: how.
        seed: of the run.
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
        needs = [t.slots | _ANSWER_NEEDS[t.answer] for t in self.templates]
        kinds: dict[frozenset[str], list[bool]] = {}  # few: what a review has or lacks
        usable = []
        for row in range(len(rows)):
            names = self._names(row)
            if names not in kinds:
                kinds[names] = [need <= names for need in needs]
            usable.append(kinds[names])
        shape = (len(rows), len(self.templates))
        self.usable = torch.tensor(usable, dtype=torch.bool).reshape(shape)
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
        counts = able.sum(1)
        nth = choice(reviews, counts, TEMPLATE, seed=self.seed, epoch=epoch)
        column = ((able.cumsum(1) == nth[:, None] + 1) & able).int().argmax(1)
        return self._made(reviews, column.tolist(), epoch=epoch, training=True)

    def evaluation_rows(self, split: SplitName, name: str) -> Tensor:
        """``(n,)`` int64 reviews of a split, by ``known`` users, that have what a template needs.

        Raises:
            ConfigError: the template is of another family or unknown.
        """
        rows = self.rows.of(split)
        rows = rows[self.usable[rows, self._column(name)]]
        return rows if self.known is None else rows[self.known[self.rows.users[rows]]]

    def evaluate(self, reviews: Tensor, name: str) -> list[Instance]:
        """Examples of ``evaluation_rows``, ``(B,)``, with one template; ratings without jitter.

        Raises:
            DataError: a review does not have what the template needs.
        """
        column = self._column(name)
        if not bool(self.usable[reviews, column].all()):
            raise DataError(f"prompt {name}: some of these reviews lack what it asks for")
        columns = [column] * len(reviews)
        return self._made(reviews, columns, epoch=EVALUATION, training=False)

    def _column(self, name: str) -> int:
        return self.templates.index(self.prompts.named(name, self.family))

    def _made(
        self, reviews: Tensor, columns: Sequence[int], *, epoch: int, training: bool
    ) -> list[Instance]:
        key = {"seed": self.seed, "epoch": epoch}
        noise = normal(reviews, JITTER, **key)
        claims = uniform(reviews, 1, VERDICT, **key)[:, 0]
        wrong = choice(reviews, MOST_STARS - 1, STARS, **key)
        found = []
        for at, (row, column) in enumerate(zip(reviews.tolist(), columns, strict=True)):
            draw = Draw(training, float(noise[at]), float(claims[at]), int(wrong[at]))
            found.append(self._instance(row, self.templates[column], draw))
        return found

    def _instance(self, row: int, template: Template, draw: Draw) -> Instance:
        stars, item = float(self.rows.ratings[row]), int(self.rows.items[row])
        values = {name: self._slot(row, name) for name in template.slots}
        reference = self._answer(row, template, draw)
        if template.answer == "verdict":
            values["stars"] = [plain(str(draw.claimed(round(stars))))]
        return Instance(
            template=template,
            prompt=template.fill(values),
            answer=[plain(reference)],
            reference=reference,
            user=int(self.rows.users[row]),
            item=item,
            stars=stars,
            shown=(item,),
        )

    def _answer(self, row: int, template: Template, draw: Draw) -> str:
        stars = float(self.rows.ratings[row])
        found = self.rows.explanations[row]
        sentence = "" if found is None else found.sentence
        match template.answer:
            case "stars" if draw.training:  # one decimal with noise that rounds to the truth (P5)
                off = max(-0.4, min(0.4, self.settings.rating_jitter * draw.noise))
                return f"{max(1.0, min(float(MOST_STARS), stars + off)):.1f}"
            case "stars" | "whole-stars":
                return str(round(stars))
            case "verdict":
                return "yes" if draw.claimed(round(stars)) == round(stars) else "no"
            case "liking":
                return "like" if stars >= LIKED else "dislike"
            case "explanation":
                return sentence
            case "stars-explanation":
                return f"{round(stars)} , {sentence}"
            case _:
                return self.rows.headlines[row].strip()

    def _names(self, row: int) -> frozenset[str]:
        """Slots and answers that this review can fill."""
        item = int(self.rows.items[row])
        there = {
            "stars": not isnan(float(self.rows.ratings[row])),
            "headline": bool(self.rows.headlines[row].strip()),
            "body": bool(self.rows.bodies[row].strip()),
            "feature": self.rows.explanations[row] is not None,
            "explanation": self.rows.explanations[row] is not None,
            "price": bool(self.catalogue.prices[item].strip()),
            "brand": bool(self.catalogue.brand(item)),
        }
        return frozenset({"user", "user_name", "item", *(name for name in there if there[name])})

    def _slot(self, row: int, name: str) -> Sequence[Unit]:
        user, item = int(self.rows.users[row]), int(self.rows.items[row])
        found = self.rows.explanations[row]
        match name:
            case "user" | "user_name":
                return self.catalogue.user(user)
            case "item":
                return self.catalogue.item(item)
            case "brand":
                return self.catalogue.brand(item)
            case "price":
                return [plain(self.catalogue.prices[item])]
            case "stars":
                return [plain(str(round(float(self.rows.ratings[row]))))]
            case "headline":
                return [plain(self.rows.headlines[row])]
            case "feature":
                return [plain("" if found is None else found.feature)]
            case _:
                words = self.rows.bodies[row].split()[: self.settings.max_body_words]
                return [plain(" ".join(words))]


_ANSWER_NEEDS: Mapping[str, frozenset[str]] = {
    "stars": frozenset({"stars"}),
    "whole-stars": frozenset({"stars"}),
    "verdict": frozenset({"stars"}),
    "liking": frozenset({"stars"}),
    "explanation": frozenset({"explanation"}),
    "stars-explanation": frozenset({"stars", "explanation"}),
    "headline": frozenset({"headline"}),
}


SPLITS: tuple[SplitName, ...] = ("train", "valid", "test")


_SPLIT_KEY = 60  # of random numbers


_TRAIN_SHARE = 0.8  # P5


@dataclass(frozen=True)
class ReviewRows:
    """R reviews of all splits.

    Attributes:
        users, items: ``(R,)`` int64.
        ratings: ``(R,)`` float32 stars, NaN = unknown.
        splits: ``(R,)`` int64 place in ``SPLITS``.
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
        texts = {
            name: [text for part in parts for text in part.texts.get(name, [""] * len(part))]
            for name in ("headline", "review")
        }
        rows = cls(
            users=torch.cat([part.users for part in parts]),
            items=torch.cat([part.items for part in parts]),
            ratings=torch.cat([part.ratings for part in parts]),
            splits=torch.cat([torch.full((len(part),), code) for code, part in enumerate(parts)]),
            headlines=texts["headline"],
            bodies=texts["review"],
            explanations=[None] * sum(len(part) for part in parts),
        )
        if split == "p5":
            rows = replace(rows, splits=random_split(rows.users, rows.items, seed=seed))
        return rows

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

    Args:
        users, items: ``(R,)`` int64 of each review.
        seed: of the draw.

    Returns:
        ``(R,)`` int64 place in ``SPLITS``.
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

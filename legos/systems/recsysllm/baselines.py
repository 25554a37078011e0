"""Baselines on the same examples as a prompt's: means, rating models, frequent phrases.

Ratings from ids alone, by training. Matrix factorization: Koren, Bell and Volinsky, Computer 2009,
equations 4-5. Perceptron: the one of NCF (He et al., WWW 2017, arXiv:1708.05031, section 3.3) over
both vectors, trained by squared error as the rating table of P5 has it. The epoch with the least
error on the valid ratings is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.errors import DataError
from legos.systems.recsysllm.measure_settings import RatingModelSettings
from legos.systems.recsysllm.settings import SplitName
from legos.systems.recsysllm.tasks.review_tasks import ReviewRows

Kind = Literal["mf", "mlp"]
RATING_MODELS: dict[Kind, str] = {"mf": "matrix factorization", "mlp": "multi-layer perceptron"}
"""By kind its title in tables."""


class Ratings(NamedTuple):
    """R known ratings.

    Attributes:
        users, items: ``(R,)`` int64.
        stars: ``(R,)`` float32.
    """

    users: Tensor
    items: Tensor
    stars: Tensor

    @classmethod
    def of(cls, reviews: ReviewRows, split: SplitName) -> Self:
        """The known ratings of a split."""
        rows = reviews.of(split)
        rows = rows[~reviews.ratings[rows].isnan()]
        return cls(reviews.users[rows], reviews.items[rows], reviews.ratings[rows])

    def refuse_unknown(self) -> None:
        """Raise DataError unless there are ratings, all known."""
        if not self.stars.numel() or not bool(self.stars.isfinite().all()):
            count = self.stars.numel()
            raise DataError(f"{count} training ratings; expected known ones, at least one")


class RatingModel(nn.Module):
    """Matrix factorization: global mean, biases of user and item, and a product of vectors.

    Args:
        kind: ``mf``: their inner product; ``mlp``: a perceptron over both, without biases.
        mean: of the training ratings.
        known_users, known_items: ``(V,)`` bool: has a training rating; others count as zeros.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        mean: float,
        known_users: Tensor,
        known_items: Tensor,
        settings: RatingModelSettings,
    ) -> None:
        super().__init__()
        self.kind, self.mean = kind, mean
        width = settings.size + (1 if kind == "mf" else 0)  # the last number is the bias
        self.tables = nn.ModuleList()
        for known in (known_users, known_items):
            table = nn.Embedding(known.numel(), width)
            with torch.no_grad():
                table.weight.normal_(std=0.1).mul_(known[:, None])
            if kind == "mf":
                with torch.no_grad():
                    table.weight[:, -1] = 0
            self.tables.append(table)
        self.mlp = None
        if kind == "mlp":
            self.mlp = MLP(
                input_size=2 * settings.size, hidden_sizes=settings.hidden_sizes, output_size=1,
                dropout=0.0,
            )  # fmt: skip

    def forward(self, users: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """Ratings of pairs ``(B,)``, and half the squared length of what each is made of."""
        user, item = (
            table(ids) for table, ids in zip(self.tables, (users, items), strict=True)
        )  # (B, size [+ 1]) each
        length = (user.square().sum(1) + item.square().sum(1)) / 2
        if self.mlp is not None:
            said: Tensor = self.mlp(torch.cat([user, item], 1)).squeeze(-1)
            return self.mean + said, length
        together = (user[:, :-1] * item[:, :-1]).sum(1)
        return self.mean + user[:, -1] + item[:, -1] + together, length

    @torch.no_grad()
    def predict(self, users: Tensor, items: Tensor) -> Tensor:
        """``(B,)`` float64 ratings from 1 to 5."""
        stars: Tensor = self(users, items)[0]
        return stars.double().clamp(1.0, 5.0)


def train_rating_model(
    kind: Kind,
    train: Ratings,
    valid: Ratings,
    *,
    num_users: int,
    num_items: int,
    seed: int,
    settings: RatingModelSettings | None = None,
) -> RatingModel:
    """Train on the CPU by squared error; the same seed gives the same model.

    ``valid`` tells when to stop; without any, training ends after all epochs.

    Raises:
        DataError: no training rating, or an unknown one.
    """
    own = settings or RatingModelSettings()
    train.refuse_unknown()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RatingModel(
            kind,
            mean=float(train.stars.double().mean()),
            known_users=torch.bincount(train.users, minlength=num_users) > 0,
            known_items=torch.bincount(train.items, minlength=num_items) > 0,
            settings=own,
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=own.lr)

        def one_pass() -> None:
            for rows in torch.randperm(train.stars.numel()).split(own.batch_size):
                stars, length = model(train.users[rows], train.items[rows])
                loss = (stars - train.stars[rows]).square() + own.weight_decay * length
                optimizer.zero_grad()
                loss.mean().backward()
                optimizer.step()

        def error() -> float:
            off = model.predict(valid.users, valid.items) - valid.stars
            return float(off.square().mean())

        keep_best(
            model, one_pass, error if valid.stars.numel() else None,
            epochs=own.epochs, patience=own.patience,
        )  # fmt: skip
    return model.eval()


def keep_best(
    model: nn.Module,
    one_pass: Callable[[], None],
    error: Callable[[], float] | None,
    *,
    epochs: int,
    patience: int,
) -> None:
    """Train until ``patience`` passes had no lower error; keep the best weights.

    Without ``error`` all passes are made, and the last weights stay.
    """
    best, since, kept = float("inf"), 0, deepcopy(model.state_dict())
    for _ in range(epochs):
        one_pass()
        if error is not None:
            found = error()
            since = 0 if found < best else since + 1
            if since >= patience:
                break
            if since:
                continue
            best = found
        kept = deepcopy(model.state_dict())
    model.load_state_dict(kept)


def mean_ratings(
    train: Ratings, asked: tuple[Tensor, Tensor], *, num_users: int, num_items: int, shrink: float
) -> Tensor:
    """Predict the global mean plus the mean deviation of the user, then of the item.

    Args:
        train: known ratings, at least one.
        asked: users and items ``(B,)`` int64; an unknown one adds nothing.
        shrink: so many ratings at the mean count beside those of everyone.

    Returns:
        ``(B,)`` float64 ratings from 1 to 5.
    """
    train.refuse_unknown()
    stars = train.stars.double()
    mean = float(stars.mean())
    of_users = _means(train.users, stars - mean, num_users, shrink)
    left = stars - mean - of_users[train.users]
    of_items = _means(train.items, left, num_items, shrink)
    users, items = asked
    whole = torch.full((users.numel(),), mean, dtype=torch.float64)
    return (whole + of_users[users] + of_items[items]).clamp(1.0, 5.0)


def _means(rows: Tensor, values: Tensor, count: int, shrink: float) -> Tensor:
    """Mean of the values of each row, 0 without any: ``(count,)`` float64."""
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, values)
    numbers = torch.bincount(rows, minlength=count).double()
    return sums / (numbers + shrink).clamp(min=1e-12)


def frequent_phrases(items: Tensor, phrases: Sequence[str], asked: Tensor) -> list[str]:
    """The most frequent phrase of each item, or of all items if it has none.

    Of equally frequent phrases the first met wins. ``items`` ``(R,)`` are those of the training
    ``phrases``, R explanations or headlines, "" where there is none; ``asked`` is ``(B,)`` int64.

    Raises:
        DataError: there is no phrase at all, or not one an item.
    """
    if items.numel() != len(phrases) or not any(phrase.strip() for phrase in phrases):
        raise DataError(f"{len(phrases)} phrases for {items.numel()} items; expected some text")
    every: Counter[str] = Counter()
    of_items: dict[int, Counter[str]] = {}
    for item, phrase in zip(items.tolist(), phrases, strict=True):
        if phrase.strip():
            every[phrase] += 1
            of_items.setdefault(item, Counter())[phrase] += 1
    counters = (of_items.get(item, every) for item in asked.tolist())
    return [counted.most_common(1)[0][0] for counted in counters]

"""Ratings predicted from ids alone by training: biased matrix factorization and a perceptron.

Matrix factorization: Koren, Bell and Volinsky, Computer 2009, equations 4-5. Perceptron: the one of
NCF (He et al., WWW 2017, arXiv:1708.05031, section 3.3) over both vectors, trained by squared error
as the rating table of P5 has it. The epoch with the least error on the valid ratings is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.errors import DataError
from legos.systems.recsysllm.backbones.build import World
from legos.systems.recsysllm.measure import Written, reference_text, text_row
from legos.systems.recsysllm.model_settings import RatingModelSettings
from legos.systems.recsysllm.prompts import Instance
from legos.systems.recsysllm.task_settings import SplitName
from legos.systems.recsysllm.tasks.events import ReviewRows

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


class RatingModel(nn.Module):
    """Global mean, biases of user and item, and what two vectors say together.

    Args:
        kind: ``mf``: their inner product; ``mlp``: a perceptron over both, without biases.
        mean: of the training ratings.
        known_users, known_items: ``(V,)`` bool: has a training rating; others count as zeros.
        settings: sizes.
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

    Args:
        kind: ``mf`` or ``mlp``.
        train: what is learned.
        valid: tells when to stop; without any, training ends after all epochs.
        num_users, num_items: how many there are.
        seed: of initial weights and order.
        settings: how; None: the defaults.

    Raises:
        DataError: no training rating, or an unknown one.
    """
    settings = settings or RatingModelSettings()
    if not train.stars.numel() or not bool(train.stars.isfinite().all()):
        raise DataError(
            f"{train.stars.numel()} training ratings; expected known ones, at least one"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = RatingModel(
            kind,
            mean=float(train.stars.double().mean()),
            known_users=torch.bincount(train.users, minlength=num_users) > 0,
            known_items=torch.bincount(train.items, minlength=num_items) > 0,
            settings=settings,
        )
        optimizer = torch.optim.Adam(model.parameters(), lr=settings.lr)
        _epochs(model, lambda: _pass(model, optimizer, train, settings), valid, settings)
    return model.eval()


def _pass(
    model: RatingModel, optimizer: torch.optim.Optimizer, train: Ratings, own: RatingModelSettings
) -> None:
    for rows in torch.randperm(train.stars.numel()).split(own.batch_size):
        found, length = model(train.users[rows], train.items[rows])
        loss = (found - train.stars[rows]).square() + own.weight_decay * length
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()


def _epochs(
    model: RatingModel, one: Callable[[], None], valid: Ratings, own: RatingModelSettings
) -> None:
    """Pass after pass, then back to the best."""
    best, since = float("inf"), 0
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    for _ in range(own.epochs):
        one()
        if valid.stars.numel():
            off = model.predict(valid.users, valid.items) - valid.stars
            error = float(off.square().mean())
            since = 0 if error < best else since + 1
            if since >= own.patience:
                break
            if since:
                continue
            best = error
        kept = {name: value.clone() for name, value in model.state_dict().items()}
    model.load_state_dict(kept)


Mean = Literal["global", "user", "item", "user+item"]


class RatingMeans:
    """Ratings predicted by means of the training ones.

    ``user+item`` adds to the global mean how far the user and the item are off it on average, both
    means shrunk as by ``shrink`` ratings at the global mean; ``user`` and ``item`` are shrunk too.

    Args:
        users, items: ``(R,)`` int64 of the training ratings.
        ratings: ``(R,)`` float32, all known.
        num_users, num_items: how many there are.
        shrink: ratings at the mean that everyone begins with.

    Raises:
        DataError: no ratings, or an unknown one.
    """

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        ratings: Tensor,
        *,
        num_users: int,
        num_items: int,
        shrink: float = 0.0,
    ) -> None:
        if not ratings.numel() or not bool(ratings.isfinite().all()):
            raise DataError(
                f"{ratings.numel()} training ratings; expected known ones, at least one"
            )
        stars = ratings.double()
        self.mean = float(stars.mean())
        self.user_offsets = _offsets(users, stars - self.mean, num_users, shrink)
        left = stars - self.mean - self.user_offsets[users]
        self.item_offsets = _offsets(items, stars - self.mean, num_items, shrink)
        self.item_offsets_after_users = _offsets(items, left, num_items, shrink)

    def predict(self, users: Tensor, items: Tensor, kind: Mean) -> Tensor:
        """``(B,)`` float64 ratings from 1 to 5; unknown users and items have the global mean."""
        found = torch.full((users.numel(),), self.mean, dtype=torch.float64)
        if kind in ("user", "user+item"):
            found = found + self.user_offsets[users]
        if kind == "item":
            found = found + self.item_offsets[items]
        if kind == "user+item":
            found = found + self.item_offsets_after_users[items]
        return found.clamp(1.0, 5.0)


class FrequentPhrase:
    """The most frequent training phrase: of an item where it has one, else of all.

    Of equally frequent phrases the first met wins.

    Args:
        items: ``(R,)`` int64 of the training phrases.
        phrases: R explanations or headlines, "" where there is none.

    Raises:
        DataError: there is no phrase at all, or not one an item.
    """

    def __init__(self, items: Tensor, phrases: Sequence[str]) -> None:
        if items.numel() != len(phrases) or not any(phrase.strip() for phrase in phrases):
            raise DataError(f"{len(phrases)} phrases for {items.numel()} items; expected some text")
        every: Counter[str] = Counter()
        self._of_items: dict[int, Counter[str]] = {}
        for item, phrase in zip(items.tolist(), phrases, strict=True):
            if phrase.strip():
                every[phrase] += 1
                self._of_items.setdefault(item, Counter())[phrase] += 1
        self.phrase = every.most_common(1)[0][0]

    def predict(self, items: Tensor, *, by_item: bool) -> list[str]:
        """A phrase for each item ``(B,)``."""
        if not by_item:
            return [self.phrase] * items.numel()
        found = (self._of_items.get(item) for item in items.tolist())
        return [own.most_common(1)[0][0] if own else self.phrase for own in found]


def _offsets(rows: Tensor, values: Tensor, count: int, shrink: float) -> Tensor:
    """Mean of the values of each row, 0 without any: ``(count,)`` float64."""
    sums = torch.zeros(count, dtype=torch.float64).index_add_(0, rows, values)
    numbers = torch.bincount(rows, minlength=count).double()
    return sums / (numbers + shrink).clamp(min=1e-12)


class PlainRows:
    """Baselines of one data set; rating models are trained when they are first needed.

    Args:
        world: tables.
        seed: of the rating models.
    """

    def __init__(self, world: World, *, seed: int) -> None:
        self._world, self._seed, self._own = world, seed, world.settings.measure
        self._models: dict[Kind, RatingModel] = {}

    def __call__(self, instances: Sequence[Instance]) -> dict[str, dict[str, float]]:
        """Metrics by name of the baseline, for examples of one template.

        Args:
            instances: at least one; of kinds of answers without a baseline there is no row.
        """
        reviews, answer = self._world.families.reviews, instances[0].template.answer
        if reviews is None:
            return {}
        users = torch.tensor([instance.user for instance in instances])
        items = torch.tensor([instance.item for instance in instances])
        if answer in ("stars", "whole-stars"):
            if not known_ratings(reviews, "train").stars.numel():
                return {}
            found = {"user and item means (no model)": self._means(reviews, users, items)}
            for kind, title in RATING_MODELS.items():
                found[f"{title} (ids alone)"] = self._model(kind, reviews).predict(users, items)
            return {name: self._errors(instances, stars) for name, stars in found.items()}
        if answer not in ("headline", "explanation"):
            return {}
        row = self._phrase_row(reviews, answer, items, instances)
        return {} if row is None else {f"most frequent {answer} (no model)": row}

    def _errors(self, instances: Sequence[Instance], stars: Tensor) -> dict[str, float]:
        texts = [f"{value:.4f}" for value in stars.tolist()]
        row = text_row(self._world, Written(instances, texts, 1.0))
        return {name: row[name] for name in ("RMSE", "MAE")}

    def _means(self, reviews: ReviewRows, users: Tensor, items: Tensor) -> Tensor:
        catalogue = self._world.families.catalogue
        means = RatingMeans(
            *known_ratings(reviews, "train"),
            num_users=len(catalogue.users),
            num_items=len(catalogue.items),
            shrink=self._own.mean_shrink,
        )
        return means.predict(users, items, "user+item")

    def _model(self, kind: Kind, reviews: ReviewRows) -> RatingModel:
        if kind not in self._models:
            catalogue = self._world.families.catalogue
            self._models[kind] = train_rating_model(
                kind,
                known_ratings(reviews, "train"),
                known_ratings(reviews, "valid"),
                num_users=len(catalogue.users),
                num_items=len(catalogue.items),
                seed=self._seed,
                settings=self._own.rating_models,
            )
        return self._models[kind]

    def _phrase_row(
        self, reviews: ReviewRows, answer: str, items: Tensor, instances: Sequence[Instance]
    ) -> dict[str, float] | None:
        pairs = [
            (row, text.strip())
            for row in reviews.of("train").tolist()
            for text in [reference_text(self._world, row, answer)]
            if text.strip()
        ]
        if not pairs:
            return None
        phrase = FrequentPhrase(
            reviews.items[torch.tensor([row for row, _ in pairs])], [text for _, text in pairs]
        )
        texts = phrase.predict(items, by_item=True)
        row = text_row(self._world, Written(instances, texts, 1.0))
        return {name: value for name, value in row.items() if name != "complete rate"}


def known_ratings(reviews: ReviewRows, split: SplitName) -> Ratings:
    """The ratings of a split but for the unknown ones."""
    rows = reviews.of(split)
    rows = rows[~reviews.ratings[rows].isnan()]
    return Ratings(reviews.users[rows], reviews.items[rows], reviews.ratings[rows])

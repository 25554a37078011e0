"""Ratings predicted from ids alone by training: biased matrix factorization and a perceptron.

Matrix factorization: Koren, Bell and Volinsky, Computer 2009, equations 4-5. Perceptron: the one of
NCF (He et al., WWW 2017, arXiv:1708.05031, section 3.3) over both vectors, trained by squared error
as the rating table of P5 has it. The epoch with the least error on the valid ratings is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from legos.blocks.mlp import MLP
from legos.errors import DataError
from legos.systems.recsysllm.model_settings import RatingModelSettings

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

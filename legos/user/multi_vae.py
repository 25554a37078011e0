"""Multi-VAE (WWW 2018): a variational autoencoder over the set of clicked items.

Liang, Krishnan, Hoffman and Jebara, "Variational Autoencoders for Collaborative Filtering", WWW
2018, arXiv:1802.05814, sections 2.1 to 2.3. The model is I → hidden → latent → hidden → I: its
first layer is an embedding bag over item ids in this module (vectors of the item encoder are not
read), its last layer is item encoder ``id`` with predictor ``dot``. The last number of a user
vector is 1, so that the last number of an item vector is the item's bias. With loss
``multinomial`` and ``exp.train.history: clicks`` it is trained as in the paper.

Unlike in the authors' code the annealing counts training batches, whatever their size. Items that
training never saw have no weights and are not read.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from legos.blocks.dropout import dropout
from legos.data.batch import BatchUsers
from legos.data.ragged import offsets_of
from legos.errors import ConfigError
from legos.registry import UserEncoderConfig, user_encoders


class MultiVAEConfig(UserEncoderConfig):
    """Settings of the Multi-VAE user encoder; ``hidden_size`` is the hidden width plus 1."""

    name: Literal["multi_vae"] = "multi_vae"
    latent_size: int = Field(200, ge=1)
    """Width of the latent variable (200 in the paper)."""
    dropout: float = Field(0.5, ge=0, lt=1)
    """Rate at which items of the input are dropped (0.5 in the paper)."""
    largest_weight: float = Field(0.2, ge=0)
    """Weight of the divergence from the prior that annealing ends at (0.2 in the authors' code)."""
    annealing_steps: int = Field(20_000, ge=0)
    """Training batches over which it rises from 0 (200,000 in the authors' code, 0: none)."""


@user_encoders.register(MultiVAEConfig)
class MultiVAE(nn.Module):
    """Encode the set of items read, sample, decode to the last hidden layer.

    Args:
        known_items: ``(items,)`` bool, True = occurs in the training split.
        hidden_size: D, one more than the width of the hidden layers.

    Raises:
        ConfigError: ``hidden_size`` is below 2.
    """

    order_aware = False

    def __init__(self, settings: MultiVAEConfig, *, known_items: Tensor, hidden_size: int) -> None:
        super().__init__()
        if hidden_size < 2:
            raise ConfigError(f"hidden_size {hidden_size}: expected 2 or more, one is for the bias")
        self.known: Tensor
        self.register_buffer("known", known_items, persistent=False)
        self.dropout = settings.dropout
        self.largest_weight = settings.largest_weight
        self.annealing_steps = settings.annealing_steps
        width = hidden_size - 1
        self.items = nn.Parameter(torch.empty(known_items.numel(), width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.latent = nn.Linear(width, 2 * settings.latent_size)  # mean and log variance
        self.decode = nn.Linear(settings.latent_size, width)
        for weight in (self.items, self.latent.weight, self.decode.weight):
            nn.init.xavier_normal_(weight)
        self.batches: Tensor
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self._divergence: Tensor | None = None

    def forward(self, history: Tensor, mask: Tensor, users: BatchUsers) -> Tensor:
        """``(B, H, D)`` (not looked at), bool ``(B, H)`` and users -> ``(B, D)``."""
        hidden = torch.tanh(self._bags(mask, users) + self.bias)
        mean, log_variance = self.latent(hidden).chunk(2, -1)  # (B, latent) each
        self._divergence = divergence(mean, log_variance)  # for penalty(), which is given the user
        if self.training:
            self.batches += 1
            mean = mean + torch.randn_like(mean) * (0.5 * log_variance).exp()
        decoded = torch.tanh(self.decode(mean))
        return torch.cat([decoded, torch.ones_like(decoded[:, :1])], 1)

    def penalty(self, user: Tensor) -> Tensor:
        """Users from the last ``forward`` -> ``(B,)``: their weighted divergence."""
        found, self._divergence = self._divergence, None
        if found is None:
            raise ValueError("there is one divergence a forward pass, to be asked for after it")
        share = 1.0 if not self.annealing_steps else self.batches / self.annealing_steps
        return found * torch.as_tensor(share).clamp(max=1.0) * self.largest_weight

    def _bags(self, mask: Tensor, users: BatchUsers) -> Tensor:
        """The first layer: ``(B, width)`` sums of the distinct items, of length 1 as a vector."""
        ids = users.items.ids[users.history]  # (B, H)
        mask = mask & (ids < self.known.numel())
        mask = mask & self.known[ids.where(mask, 0)]
        rows = torch.arange(len(ids), device=ids.device)[:, None]
        count = self.known.numel()
        pairs = torch.unique((rows * count + ids)[mask])  # by row, each item once
        rows, items = pairs // count, pairs % count
        sizes = torch.bincount(rows, minlength=len(ids))
        weights = sizes.clamp(min=1).to(self.items.dtype).rsqrt()[rows]
        if self.training and self.dropout:
            weights = dropout(weights, self.dropout)
        return functional.embedding_bag(
            items, self.items, offsets_of(sizes)[:-1], mode="sum", per_sample_weights=weights
        )


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL of a normal distribution from the standard one: two ``(B, latent)`` -> ``(B,)``."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(-1)

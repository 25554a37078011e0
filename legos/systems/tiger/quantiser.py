"""From vectors of texts to semantic codes: residual k-means, or an RQ-VAE that starts from it.

The RQ-VAE is that of Rajput et al., section 3.1: an encoder, a code of the nearest vector a level,
each of what the levels before it left over, a decoder, and a loss of reconstruction plus, on every
level, of codes near residuals and (times beta) of residuals near codes. Gradients pass the codes
straight through (van den Oord et al., NIPS 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from legos.blocks.kmeans import assign
from legos.blocks.residual_codes import quantise, without_collisions
from legos.data.sampling import row_order
from legos.systems.tiger.settings import CodeSettings

_OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam": torch.optim.Adam,
    "adagrad": torch.optim.Adagrad,
}


class Quantiser(nn.Module):
    """An encoder of fully connected layers (none for k-means) and one codebook per level.

    Everything is a buffer: training of the recommender leaves it as it is, and checkpoints have it.

    Args:
        layers: weight ``(outputs, inputs)`` and bias of each layer; ReLU between them.
        codebooks: per level ``(K, E)``.
    """

    def __init__(
        self, layers: Sequence[tuple[Tensor, Tensor]], codebooks: Sequence[Tensor]
    ) -> None:
        super().__init__()
        self.depth, self.levels = len(layers), len(codebooks)
        for number, (weight, bias) in enumerate(layers):
            self.register_buffer(f"weight_{number}", weight)
            self.register_buffer(f"bias_{number}", bias)
        for number, codebook in enumerate(codebooks):
            self.register_buffer(f"codebook_{number}", codebook)

    def forward(self, vectors: Tensor) -> Tensor:
        """``(N, E)`` -> codes ``(N, levels)`` int64."""
        for number in range(self.depth):
            weight, bias = (getattr(self, f"{part}_{number}") for part in ("weight", "bias"))
            vectors = F.linear(vectors, weight, bias)
            vectors = F.relu(vectors) if number + 1 < self.depth else vectors
        codes = []
        for number in range(self.levels):
            codebook = getattr(self, f"codebook_{number}")
            found = assign(vectors, codebook).codes
            vectors = vectors - codebook[found]
            codes.append(found)
        return torch.stack(codes, 1)

    @classmethod
    def from_tensors(cls, tensors: dict[str, Tensor]) -> Quantiser:
        """Read from a checkpoint, by the names of the buffers."""
        depth = sum(name.startswith("weight_") for name in tensors)
        levels = sum(name.startswith("codebook_") for name in tensors)
        layers = [(tensors[f"weight_{n}"], tensors[f"bias_{n}"]) for n in range(depth)]
        return cls(layers, [tensors[f"codebook_{n}"] for n in range(levels)])


class SemanticIds(NamedTuple):
    """Semantic ids of items.

    Attributes:
        codes: ``(N, levels + 1)`` int64, all rows different.
        quantiser: that made all columns but the last.
    """

    codes: Tensor
    quantiser: Quantiser


def semantic_ids(
    vectors: Tensor,
    own: CodeSettings,
    *,
    seed: int,
    say: Callable[[str], None] = lambda text: None,
) -> SemanticIds:
    """Make codes of items, and a last one that distinguishes equal codes; the same in every call.

    Codebooks follow from the vectors and the seed, not from the order of the items. The last code
    counts items with equal codes in the order of the rows.

    Args:
        vectors: ``(N, E)`` float32.
        seed: of centres, first weights and the order of the items in training.
    """
    size, learned = min(own.size, len(vectors)), vectors[_content_order(vectors)]
    if own.method == "kmeans":
        found = quantise(
            learned, levels=own.levels, size=size, seed=seed, iterations=own.iterations
        )
        quantiser = Quantiser([], found.codebooks)
    else:
        quantiser = _trained(learned, own, size, seed, say)
    return SemanticIds(without_collisions(quantiser(vectors)), quantiser)


def _content_order(vectors: Tensor) -> Tensor:
    """``(N,)`` int64 rows of ``(N, E)`` sorted by their bytes: any order that rows decide."""
    rows = np.ascontiguousarray(vectors.numpy())
    whole = rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).reshape(-1)
    return torch.from_numpy(whole.argsort(kind="stable"))


def further_codes(known: Tensor, found: Tensor) -> Tensor:
    """Make tuples of new items; last codes continue those of items with the same codes.

    Args:
        known: ``(N, levels + 1)`` int64 of the items that are there.
        found: ``(M, levels)`` int64 of the quantiser.

    Returns:
        ``(M, levels + 1)``.
    """
    every = without_collisions(torch.cat([known[:, :-1], found]))
    return every[len(known) :]


class _RqVae(nn.Module):
    def __init__(self, widths: Sequence[int], levels: int, size: int) -> None:
        super().__init__()
        back = widths[::-1]
        self.encoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.decoder = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(back))
        self.codebooks = nn.ParameterList(torch.zeros(size, widths[-1]) for _ in range(levels))

    def encode(self, vectors: Tensor) -> Tensor:
        return _through(self.encoder, vectors)

    def loss(self, vectors: Tensor, commitment: float) -> Tensor:
        """Reconstruction and quantisation, summed over numbers, the mean over ``(B, E)`` rows."""
        latent = self.encode(vectors)
        residual, total = latent, latent.new_zeros(())
        for codebook in self.codebooks:
            nearest = codebook[assign(residual.detach(), codebook.detach()).codes]
            total = total + (residual.detach() - nearest).square().sum(1).mean()
            total = total + commitment * (residual - nearest.detach()).square().sum(1).mean()
            residual = residual - nearest.detach()
        quantised = latent - residual.detach()  # the sum of the codes; its gradient is latent's
        return total + (vectors - _through(self.decoder, quantised)).square().sum(1).mean()


def _through(layers: nn.ModuleList, values: Tensor) -> Tensor:
    for number, layer in enumerate(layers):
        values = layer(values)
        values = F.relu(values) if number + 1 < len(layers) else values
    return values


def _trained(
    vectors: Tensor, own: CodeSettings, size: int, seed: int, say: Callable[[str], None]
) -> Quantiser:
    """Train an RQ-VAE whose codebooks start from k-means of what the first weights encode."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _RqVae([vectors.shape[1], *own.hidden, own.width], own.levels, size)
    with torch.no_grad():
        start = quantise(
            model.encode(vectors), levels=own.levels, size=size, seed=seed,
            iterations=own.iterations,
        )  # fmt: skip
        for codebook, begin in zip(model.codebooks, start.codebooks, strict=True):
            codebook[: len(begin)] = begin
            codebook[len(begin) :] = begin[0]
    optimizer = _OPTIMIZERS[own.optimizer](model.parameters(), lr=own.lr)
    loss = torch.zeros(())
    for number in range(own.epochs):
        order = row_order(len(vectors), seed=seed, pass_number=number)
        for rows in order.split(own.batch_size):
            optimizer.zero_grad()
            loss = model.loss(vectors[rows], own.commitment)
            loss.backward()
            optimizer.step()
    say(f"RQ-VAE: {own.epochs} epochs, loss {loss.item():.4f}")
    linear: list[Any] = list(model.encoder)
    layers = [(each.weight.detach(), each.bias.detach()) for each in linear]
    return Quantiser(layers, [each.detach() for each in model.codebooks])

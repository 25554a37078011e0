"""Training losses, one number per row, so that sums over micro-batches and processes are exact.

``softmax``: cross-entropy over the click and its K negatives (NRMS, Wu et al., EMNLP 2019,
equation 11). ``bce``: binary cross-entropy of every candidate, mean over a row's candidates.
``bpr``: Bayesian personalised ranking (Rendle et al., UAI 2009), mean over a row's negatives.
``cosine_contrastive``: SimpleX (Mao et al., CIKM 2021, section 4.1), of scores that are cosines.

For large catalogues: ``gbce``: generalised binary cross-entropy (gSASRec; Petrov and Macdonald,
RecSys 2023). ``sampled_softmax``: that over all items, estimated from a sample (Bengio and Senécal,
IEEE Transactions on Neural Networks, 2008).

Over the whole catalogue: ``full_softmax``: -log softmax at the click. ``multinomial``: its sum over
all clicks of an impression (Multi-VAE, Liang et al., WWW 2018, equation 2).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from legos.blocks.linear_cross_entropy import linear_cross_entropy
from legos.data.batch import Batch, Drawn
from legos.data.items import ItemStore
from legos.errors import ConfigError, nearest
from legos.recommender import Factors, Recommender, Scored
from legos.training.weights import random_tensors, restore_random_tensors


def softmax_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """-log softmax at the click; ``labels`` are not needed because column 0 is the click."""
    scores = scores.masked_fill(~mask, float("-inf"))
    return -functional.log_softmax(scores, dim=1)[:, 0]


def binary_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's candidates of the cross-entropy between click and sigmoid(score)."""
    losses = functional.binary_cross_entropy_with_logits(scores, labels, reduction="none")
    return _masked_mean(losses, mask)


def bpr_loss(scores: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
    """Mean over a row's negatives of -log sigmoid(click's score - negative's score)."""
    losses = -functional.logsigmoid(scores[:, :1] - scores[:, 1:])  # (B, K)
    return _masked_mean(losses, mask[:, 1:])


class LossSettings(NamedTuple):
    """Settings of single losses.

    Attributes:
        margin: m of ``cosine_contrastive``, the cosine below which a negative costs nothing.
        negative_weight: w of it, of all negatives of a row together, against its click.
        calibration: t of ``gbce``.
    """

    margin: float = 0.9
    negative_weight: float = 10.0
    calibration: float = 0.75


_USUAL, _ALL_OTHERS = LossSettings(), Drawn()


def cosine_contrastive_loss(
    scores: Tensor, labels: Tensor, mask: Tensor, settings: LossSettings
) -> Tensor:
    """1 - click's cosine + w * mean over a row's negatives of max(0, cosine - m)."""
    above = (scores[:, 1:] - settings.margin).relu()  # (B, K)
    return 1 - scores[:, 0] + settings.negative_weight * _masked_mean(above, mask[:, 1:])


def positive_power(rate: float, calibration: float) -> float:
    """β of gBCE, α (t (1 - 1/α) + 1/α): from 1 at t = 0 to α at t = 1.

    Args:
        rate: α, the share of the other items that a row has for negatives.
        calibration: t; at 1 scores estimate probabilities, at 0 the loss is ``bce``.
    """
    return rate * (calibration * (1 - 1 / rate) + 1 / rate)


def generalised_binary_loss(scores: Tensor, labels: Tensor, mask: Tensor, power: float) -> Tensor:
    """-(log σ(s⁺)^β + Σ log(1 - σ(s⁻))) / (1 + K), with s⁺ of the click and β = ``power``.

    The gBCE of Petrov and Macdonald. It is computed as (β softplus(-s⁺) + Σ softplus(s⁻)) /
    (1 + K), which no score overflows: the authors' code transforms s⁺ to log(1 / (σ(s⁺)^-β - 1))
    before a usual binary cross-entropy, for which it needs float64 and bounds.
    """
    positive = power * functional.softplus(-scores[:, 0])
    others = functional.softplus(scores[:, 1:]).masked_fill(~mask[:, 1:], 0.0)
    return (positive + others.sum(1)) / mask.sum(1)


def sampled_softmax_loss(
    scores: Tensor, labels: Tensor, mask: Tensor, log_counts: Tensor | None
) -> Tensor:
    """-s⁺ + log(exp(s⁺) + Σ exp(s⁻ - log(K q⁻))), an estimate of -log softmax over all items.

    An item of which K draws bring K q on average counts 1/(K q) each time, the logQ correction of
    Yi et al., RecSys 2019. Draws of the click itself are masked. So the sum has the
    mean Σ exp(s) over all items. Nothing is subtracted from s⁺: it is there with certainty
    (Khrylchenko et al., "Correcting the LogQ Correction", RecSys 2025, arXiv 2507.09331). Were
    log(K q⁺) subtracted too, as Yi et al. do, uniform draws would have no correction at all.

    Args:
        log_counts: ``(B, K)`` or ``(K,)``; None: 0.
    """
    others = scores[:, 1:] if log_counts is None else scores[:, 1:] - log_counts
    others = others.masked_fill(~mask[:, 1:], float("-inf"))
    return torch.cat([scores[:, :1], others], 1).logsumexp(1) - scores[:, 0]


LOSSES: dict[str, Callable[..., Tensor]] = {
    "softmax": softmax_loss,
    "bce": binary_loss,
    "bpr": bpr_loss,
    "cosine_contrastive": cosine_contrastive_loss,
    "gbce": generalised_binary_loss,
    "sampled_softmax": sampled_softmax_loss,
}
"""By name: ``(scores (B, C), labels (B, C), mask (B, C)) -> (B,)``; some take more."""


CATALOGUE_LOSSES = ("full_softmax", "multinomial")
MAX_SCORES = 2**22
"""Scores of all items that a loss holds at once, where they are products: 16 MB."""
_FEWEST_ROWS = 32  # even so, as many rows: for fewer the catalogue is read more often than used


def catalogue_loss(scores: Tensor, batch: Batch) -> Tensor:
    """Sum over a row's clicks of -log softmax over all recommendable items.

    Args:
        scores: ``(B, C)`` of all items that are offered.
        batch: with ``targets``.

    Returns:
        ``(B,)``.
    """
    if batch.targets is None:
        raise ValueError("a batch with drawn negatives has no loss over the catalogue")
    targets, rows = batch.targets.values, batch.targets.rows
    total = scores.logsumexp(1)  # (B,); keeps one (B, C) tensor less than log_softmax
    losses = total[rows] - scores[rows, targets]  # (T,)
    return torch.zeros_like(total).index_add(0, rows, losses)


def batch_loss(
    name: str, scored: Scored, batch: Batch, counted: int, settings: LossSettings = _USUAL
) -> tuple[Tensor, Tensor]:
    """The loss of a batch; see :func:`row_losses` and :func:`catalogue_loss`.

    Args:
        name: of the loss.
        scored: what the model gave.
        batch: that it was given.
        counted: rows that count, the first ones.
        settings: of single losses.

    Returns:
        Its sum over these rows, and the loss of each, ``(counted,)`` without a gradient.
    """
    scores, penalty = scored.scores, scored.penalty
    if isinstance(scores, Factors):
        if batch.targets is None:
            raise ValueError("a batch with drawn negatives has no loss over the catalogue")
        targets = batch.targets.select(torch.arange(counted, device=scores.users.device))
        users, items = scores.users[:counted], scores.items
        held = max(MAX_SCORES, _FEWEST_ROWS * len(items))
        total, rows = linear_cross_entropy(users, items, targets, max_logits=held)
        if penalty is not None:
            total = total + penalty[:counted].sum()
            rows = rows + penalty[:counted].detach()
        return total, rows
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    if name in CATALOGUE_LOSSES:
        losses = catalogue_loss(scores, batch)
    else:
        losses = row_losses(name, scores, batch.labels, batch.candidate_mask, settings, batch.drawn)
    losses = (losses if penalty is None else losses + penalty)[:counted]
    return losses.sum(), losses.detach()


def row_losses(
    name: str,
    scores: Tensor,
    labels: Tensor,
    mask: Tensor,
    settings: LossSettings = _USUAL,
    drawn: Drawn = _ALL_OTHERS,
) -> Tensor:
    """The loss of each row, in float32 where the scores are of half precision.

    Args:
        name: one of ``LOSSES``.
        scores: ``(B, C)``, column 0 is the click.
        labels: ``(B, C)`` float32.
        mask: ``(B, C)`` bool, True = a real candidate; column 0 always is.
        settings: of single losses.
        drawn: how negatives were drawn.

    Returns:
        ``(B,)`` float32, or float64 like the scores.
    """
    if name not in LOSSES:
        raise ConfigError(f"exp.train.loss: unknown loss {name!r}; {nearest(name, LOSSES)}")
    if scores.dtype in (torch.bfloat16, torch.float16):
        scores = scores.float()
    more: dict[str, tuple[object, ...]] = {
        "cosine_contrastive": (settings,),
        "gbce": (positive_power(drawn.rate, settings.calibration),),
        "sampled_softmax": (drawn.log_counts,),
    }
    return LOSSES[name](scores, labels.to(scores.dtype), mask, *more.get(name, ()))


def _masked_mean(losses: Tensor, mask: Tensor) -> Tensor:
    total = losses.masked_fill(~mask, 0.0).sum(1)
    return total / mask.sum(1).clamp(min=1)


class CachedItems:
    """Vectors of a batch's items, encoded page by page, with gradients back into the encoder.

    Every page gets short and long items alike: none needs more memory than another, however many
    pages a batch has.

    Args:
        model: not wrapped for many processes.
        store: item content.
        items: ``(N,)`` int64 item ids, at least one.
        page_size: the most items encoded at once.
        autocast: makes the context of mixed precision. Each pass gets its own: the weights that
            a context has cast without a graph would have no gradient in a later pass.

    Attributes:
        vectors: ``(N, D)`` in the order of ``items``, a leaf that gathers the gradient.
    """

    def __init__(
        self,
        model: Recommender,
        store: ItemStore,
        items: Tensor,
        *,
        page_size: int,
        autocast: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._model, self._store, self._items, self._autocast = model, store, items, autocast
        self._pages = even_pages(store.lengths[items], page_size)  # positions in items
        self._states: list[dict[str, Tensor]] = []  # of the random generators before each page
        encoded = []
        with torch.no_grad(), autocast():
            for page in self._pages:
                self._states.append(random_tensors())
                encoded.append(self._encode(page))
        self.vectors = torch.cat(encoded)[torch.cat(self._pages).argsort()]
        parameters = model.item_encoder.parameters()
        self.vectors.requires_grad_(any(parameter.requires_grad for parameter in parameters))

    def backward(self) -> None:
        """Pass the gradient at the vectors to the encoder's parameters; restore random states."""
        gradient, after = self.vectors.grad, random_tensors()
        if gradient is None:
            return
        for page, state in zip(self._pages, self._states, strict=True):
            restore_random_tensors(state)
            with self._autocast():
                vectors = self._encode(page)
            if vectors.requires_grad:  # not where the page has nothing that is trained
                vectors.backward(gradient[page].to(vectors.dtype))
        restore_random_tensors(after)

    def _encode(self, page: Tensor) -> Tensor:
        """Items at ``(M,)`` positions -> ``(M, D)``."""
        return self._model.encode_items(self._store.batch(self._items[page]))


def even_pages(lengths: Tensor, page_size: int) -> list[Tensor]:
    """Split positions ``(N,)`` into pages of at most ``page_size``, each with all lengths."""
    order, count = lengths.argsort(stable=True), -(-lengths.numel() // page_size)
    return [order[first::count] for first in range(count)]

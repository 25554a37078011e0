"""Likelihoods and mutual regularisation (CLLM4Rec, equations of sections 3.3 to 3.5).

Every likelihood is a sum and a count: batches may be split into parts of any size, and only
:func:`combine` decides whether a mean or a sum is trained on.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from legos.blocks.linear_cross_entropy import linear_cross_entropy
from legos.data.ragged import Ragged
from legos.lm.word_model import MAX_LOGITS
from legos.systems.cllm4rec.backbone import SoftTables
from legos.systems.cllm4rec.settings import MutualSettings, Reduction


class LossParts(NamedTuple):
    """Parts of a step's loss.

    Attributes:
        likelihood: fp32 scalar, summed negative log-likelihood.
        divisor: what a mean divides it by: predicted tokens, or users in finetuning.
        regularisation: fp32 scalar, see :func:`mutual_distance`; before its weight.
        prior: fp32 scalar, summed squared entries of collaborative vectors; before its weight.
    """

    likelihood: Tensor
    divisor: int
    regularisation: Tensor
    prior: Tensor


def predicted_positions(
    tokens: Ragged, prompt_lengths: Tensor, *, score_first_main: bool
) -> Tensor:
    """Positions of the tokens that the language model has to predict.

    Args:
        tokens: S sequences, each a prompt and its main text.
        prompt_lengths: ``(S,)`` int64, at least 1 each.
        score_first_main: also the main text's first, from the prompt's last (paper); the public
            code shifts within the main text and never predicts it.

    Returns:
        ``(M,)`` int64 indices of ``tokens.values``; the state before each predicts it.
    """
    first = prompt_lengths + (0 if score_first_main else 1)
    return (tokens.positions >= first[tokens.rows]).nonzero()[:, 0]


def next_token_likelihood(
    states: Tensor, tokens: Ragged, positions: Tensor, table: Tensor, *, first: int = 0
) -> Tensor:
    """Summed negative log-likelihood of tokens under a softmax over one table: fp32 scalar.

    Args:
        states: ``(P, D)`` of all tokens; only those before ``positions`` reach the head.
        positions: ``(M,)``, see :func:`predicted_positions`.
        table: ``(V, D)`` vectors of words, or of items.
        first: token id of the table's row 0.
    """
    before = states.index_select(0, positions - 1)  # (M, D)
    wanted = tokens.values[positions].long() - first
    targets = Ragged(wanted, torch.arange(len(wanted) + 1, device=wanted.device))
    return linear_cross_entropy(before, table, targets, max_logits=MAX_LOGITS).total


def multinomial_likelihood(scores: Tensor, targets: Ragged) -> Tensor:
    """Summed negative multinomial log-likelihood, as in Multi-VAE (Liang et al., WWW 2018).

    Over scores ``(B, J)`` of all items and B rows r of distinct items, the sum over rows of
    ``|r| logsumexp(s) - sum of s over r``: an fp32 scalar.
    """
    scores = scores.float()
    normaliser = scores.logsumexp(1)  # (B,)
    wanted = scores[targets.rows, targets.values.long()]
    return (targets.lengths * normaliser).sum() - wanted.sum()


def mutual_distance(
    own: SoftTables, other: SoftTables, users: Tensor, items: Tensor, *, reduction: Reduction
) -> Tensor:
    """Squared distance of a step's vectors from those of the other side, which is fixed.

    ``users`` and ``items`` are ``(n,)`` and ``(m,)`` int64, one for each time a batch counts one.
    Reductions `paper` and `public_code` sum over all counts; `mean_unique` is the mean over
    distinct users and items.
    """
    if reduction == "mean_unique":
        users, items = users.unique(), items.unique()
    total = _squared(own.user.weight, other.user.weight, users)
    total = total + _squared(own.item.weight, other.item.weight, items)
    if reduction == "mean_unique":
        total = total / max(1, users.numel() + items.numel())
    return total


def prior_penalty(tables: SoftTables, users: Tensor, items: Tensor) -> Tensor:
    """Summed squares of the vectors of the users and items that a batch counts: fp32 scalar."""
    parts = ((tables.user.weight, users), (tables.item.weight, items))
    squares = [weight.index_select(0, ids).float().square().sum() for weight, ids in parts]
    return squares[0] + squares[1]


def combine(parts: LossParts, settings: MutualSettings, *, count: int | None = None) -> Tensor:
    """The loss of a step.

    Args:
        parts: of a batch, or of a part of it.
        settings: weights, and whether the likelihood is a sum (`paper`) or a mean.
        count: of the whole batch, where parts are of a part of it. With `mean_unique` a batch must
            be whole for its regularisation to be a mean over it.

    Returns:
        fp32 scalar.
    """
    if settings.reduction == "paper":
        loss = parts.likelihood + settings.weight / 2 * parts.regularisation
        return loss + settings.prior / 2 * parts.prior
    count = parts.divisor if count is None else count
    loss = parts.likelihood / max(1, count) + settings.weight * parts.regularisation
    return loss + settings.prior * parts.prior


def _squared(own: Tensor, other: Tensor, ids: Tensor) -> Tensor:
    fixed = other.detach().index_select(0, ids)
    return (own.index_select(0, ids) - fixed).float().square().sum()

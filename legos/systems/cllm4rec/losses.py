"""Likelihoods and mutual regularisation (CLLM4Rec, equations of sections 3.3 to 3.5).

Every likelihood is a sum and a count: batches may be split into parts of any size, and only
:func:`combine` decides whether a mean or a sum is trained on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from legos.data.ragged import Ragged
from legos.lm.word_model import MAX_LOGITS
from legos.systems.cllm4rec.backbone import SoftTables
from legos.systems.cllm4rec.settings import MutualSettings, Reduction


class LossParts(NamedTuple):
    """What a step's loss is made of.

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
    """Where the tokens stand that a language model has to predict.

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
    return linear_cross_entropy(before, table, wanted)


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
    """Squared distance of a step's vectors from those of the other side, which stays as it is.

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


def linear_cross_entropy(
    states: Tensor, table: Tensor, targets: Tensor, *, max_logits: int = MAX_LOGITS
) -> Tensor:
    """Summed ``-log softmax(states @ table.T)[targets]``, without ever holding all logits.

    Logits of a chunk of positions become the chunk's gradients at once and are dropped: two matrix
    products more than the loss alone, but no second pass (as fused linear cross-entropies, Hsu et
    al., "Liger Kernel", 2024, arXiv 2410.10989). Sums are fp32.

    Args:
        states: ``(M, D)``.
        table: ``(V, D)``; it gets a gradient where it wants one.
        targets: ``(M,)`` int64 rows of the table.
        max_logits: logits held at once; at least one position is done at a time.

    Returns:
        fp32 scalar; 0 without positions.
    """
    result: Tensor = _LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
        states, table, targets, max_logits
    )
    return result


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, states: Tensor, table: Tensor, targets: Tensor, max_logits: int
    ) -> Tensor:
        device, kind = states.device.type, states.dtype
        if torch.is_autocast_enabled(device):
            kind = torch.get_autocast_dtype(device)
        wants_states, wants_table = context.needs_input_grad[:2]
        weight = table.to(kind)
        state_gradient = torch.empty_like(states) if wants_states else None
        table_gradient = torch.zeros_like(table, dtype=torch.float32) if wants_table else None
        total = states.new_zeros((), dtype=torch.float32)
        step = max(1, max_logits // table.shape[0])
        with torch.autocast(device, enabled=False):
            for begin in range(0, len(states), step):
                chunk = states[begin : begin + step].to(kind)  # (m, D)
                wanted = targets[begin : begin + step, None]
                logits = (chunk @ weight.T).float()  # (m, V)
                normaliser = logits.logsumexp(1, keepdim=True)
                total += (normaliser - logits.gather(1, wanted)).sum()
                if not (wants_states or wants_table):
                    continue
                error = logits.sub_(normaliser).exp_()  # softmax minus one-hot, in place
                error.scatter_add_(1, wanted, error.new_full(wanted.shape, -1.0))
                error = error.to(kind)
                if state_gradient is not None:
                    state_gradient[begin : begin + step] = error @ weight
                if table_gradient is not None:
                    table_gradient += (error.T @ chunk).float()
        context.save_for_backward(state_gradient, table_gradient)
        context.table_dtype = table.dtype
        return total

    @staticmethod
    def backward(context: Any, *gradients: Any) -> Any:
        state_gradient, table_gradient = context.saved_tensors
        (outer,) = gradients
        if state_gradient is not None:
            state_gradient = state_gradient * outer
        if table_gradient is not None:
            table_gradient = (table_gradient * outer).to(context.table_dtype)
        return state_gradient, table_gradient, None, None

"""The best items of users: excluded items out, equal scores by item number, on the device."""

from __future__ import annotations

import torch
from torch import Tensor

from legos.data.ragged import Ragged, join_rows
from legos.errors import DataError
from legos.systems.cllm4rec.batches import PromptBatch, RecommendationPrompts
from legos.systems.cllm4rec.model import Cllm4Rec
from legos.systems.cllm4rec.settings import RecommendationSettings

NO_ITEM = -1  # where fewer items are left than asked for


def top_items(scores: Tensor, excluded: Ragged, count: int) -> Tensor:
    """The best items of every row.

    Args:
        scores: ``(B, J)``, left as they are.
        excluded: B rows of item numbers that are never given.
        count: M, cut to J.

    Returns:
        ``(B, M)`` int64 item numbers, best first, of equal ones the lower number first;
        ``NO_ITEM`` where nothing is left.

    Raises:
        DataError: a score is NaN.
    """
    if bool(scores.isnan().any()):
        row = int(scores.isnan().any(1).nonzero()[0])
        raise DataError(f"scores of row {row} are not numbers; the model has diverged")
    count = min(count, scores.shape[1])
    lowest = -torch.inf
    scores = scores.index_put(
        (excluded.rows, excluded.values.long()), scores.new_tensor(lowest)
    )  # (B, J)
    threshold = scores.topk(count, sorted=False).values.amin(1, keepdim=True)
    above, level = scores > threshold, scores == threshold
    wanted = count - above.sum(1, keepdim=True)  # of those level with the threshold
    chosen = above | (level & (level.cumsum(1) <= wanted))
    items = chosen.nonzero()[:, 1].view(len(scores), count)  # ascending in a row
    values, order = scores.gather(1, items).sort(dim=1, descending=True, stable=True)
    return items.gather(1, order).masked_fill(values == lowest, NO_ITEM)


def excluded_items(
    train: Ragged, valid: Ragged | None, users: Tensor, settings: RecommendationSettings
) -> Ragged:
    """Items that are not recommended to ``(B,)`` users: B rows.

    Raises:
        DataError: validation items are to be excluded, but there are none.
    """
    if settings.exclude == "train":
        return train.select(users)
    if valid is None:
        raise DataError("recommendation.exclude is train+valid, but no validation items are given")
    return join_rows([train.select(users), valid.select(users)])


@torch.no_grad()
def recommend(
    model: Cllm4Rec,
    prompts: RecommendationPrompts,
    users: Tensor,
    excluded: Ragged,
    *,
    count: int,
) -> Tensor:
    """The best items of users in one forward pass.

    Args:
        model: in evaluation mode.
        prompts: of the train items.
        users: ``(B,)`` int64.
        excluded: B rows, see :func:`excluded_items`.
        count: M.

    Returns:
        ``(B, M)`` int64, see :func:`top_items`.
    """
    batch = prediction_batch(model, prompts, users)
    device = model.item_head.device
    return top_items(model.scores(batch.to(device)), excluded.to(device), count)


def prediction_batch(
    model: Cllm4Rec, prompts: RecommendationPrompts, users: Tensor, items: Ragged | None = None
) -> PromptBatch:
    """What a model is to read of ``(B,)`` users to score all items.

    Args:
        model: whose settings say how.
        prompts: of the train items.
        users: ``(B,)`` int64.
        items: B rows of distinct ascending items that they have; None: the train items.
    """
    if model.settings.recommendation.scoring == "next_item":
        return prompts.histories(users, items=items)
    return prompts.prompts(users, items=items)

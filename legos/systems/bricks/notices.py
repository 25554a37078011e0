"""What is allowed and yet worth a line before it is done: slow settings, training without input."""

from __future__ import annotations

from legos.data.batch import Rows
from legos.evaluation.states import distinct_states
from legos.systems.bricks.losses import CATALOGUE_LOSSES
from legos.workplace.workplace import Workplace


def training_notices(place: Workplace, rows: Rows) -> list[str]:
    """Lines about a training that is as asked for, and hardly meant."""
    train, lines = place.config.exp.train, []
    if rows.histories.all_empty:
        hint = ""
        if train.history == "given":
            hint = "; exp.train.history: clicks makes one of an impression's other clicks"
        lines.append(f"no training row has a history to encode a user from{hint}")
    if train.loss in CATALOGUE_LOSSES and place.config.bricks.item.name != "id":
        lines.append(
            f"exp.train.loss {train.loss} encodes all {len(place.store):,} items in every "
            f"micro-batch; item encoder {place.config.bricks.item.name} may take long, and "
            "exp.train.item_page_size bounds its memory"
        )
    return lines


def ranking_cost(place: Workplace) -> str:
    """How ``exp.evaluate.ranking: all`` comes by its scores, and how many there are."""
    model, data = place.config.bricks, place.config.data
    states = sum(distinct_states(place.split(split))[0].users.numel() for split in data.splits.test)
    offered = int(place.tables.offered.sum())
    how = "a network over each pair; slower than a product of vectors"
    if model.user.output not in ("vector", "interests"):
        how = f"{model.user.name} makes another user for every item, which is very slow"
    elif model.predictor.scores_catalogue:
        how = "products of all users with all items"
    return f"ranking all: {states:,} test histories x {offered:,} items: {how}"

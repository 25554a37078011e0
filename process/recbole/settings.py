"""What RecBole is told: the protocol that all models share, and what each adds to it.

The models and widths are those of RecBole 1.2.1; the protocol is that of ``config/exp/
sequential.yaml``. What its own defaults say well (dropout, layers, learning rate) is not repeated.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CLASS = "class"
"""The field of item attributes."""
SHARED: Mapping[str, Any] = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "TIME_FIELD": "timestamp",
    "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
    "MAX_ITEM_LIST_LENGTH": 50,
    "eval_args": {
        "split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full",
    },
    "metrics": ["Hit", "NDCG"],
    "topk": [5, 10],
    "valid_metric": "NDCG@10",
    "metric_decimal_place": 6,
    "epochs": 200,
    "stopping_step": 10,
    "train_batch_size": 256,
    "seed": 2023,
    "show_progress": False,
}  # fmt: skip
"""Leave-last-out by the order of events, every item ranked."""
_OVER_ALL_ITEMS: Mapping[str, Any] = {"loss_type": "CE", "train_neg_sample_args": None}
_ATTRIBUTES: Mapping[str, Any] = {
    "load_col": {**SHARED["load_col"], "item": ["item_id", CLASS]},
}
MODELS: Mapping[str, Mapping[str, Any]] = {
    "Caser": _OVER_ALL_ITEMS,
    "HGN": _OVER_ALL_ITEMS,
    "GRU4Rec": _OVER_ALL_ITEMS,
    "BERT4Rec": _OVER_ALL_ITEMS,
    "SASRec": _OVER_ALL_ITEMS,
    "FDSA": {**_OVER_ALL_ITEMS, **_ATTRIBUTES, "selected_features": [CLASS]},
    "S3Rec": {**_OVER_ALL_ITEMS, **_ATTRIBUTES, "item_attribute": CLASS, "pretrain_epochs": 100,
              "save_step": 100},
    "BPR": {"train_batch_size": 1024},
    "SimpleX": {
        "train_batch_size": 512,
        "train_neg_sample_args": {"distribution": "uniform", "sample_num": 100},
    },
}  # fmt: skip
"""By RecBole's name what a model adds; S3Rec has two stages, which ``run_model.py`` knows."""
NEED_ATTRIBUTES = ("FDSA", "S3Rec")


def settings_text(values: Mapping[str, Any]) -> str:
    """Settings as a YAML, one key a line; ``1e-3`` and the like never occur."""
    import json

    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())

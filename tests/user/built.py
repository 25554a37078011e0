"""A user encoder of a recommender over the random items, in float64, with no bias left at zero."""

from __future__ import annotations

import torch
from torch import nn

from legos.registry import UserEncoderConfig, predictors
from tests.brick_forms import fitting
from tests.bricks import random_recommender, random_store


def built(config: UserEncoderConfig, *, hidden_size: int = 16) -> nn.Module:
    predictor = fitting(predictors, lambda other: config.output in other.accepts)
    model = random_recommender(
        random_store(), user=config, predictor=predictor, hidden_size=hidden_size
    )
    torch.manual_seed(0)
    for name, parameter in model.user_encoder.named_parameters():
        if "bias" in name or name.endswith("unknown"):
            torch.nn.init.normal_(parameter)
    return model.user_encoder.double().eval()

"""MINER's click prediction against loops over users, candidates and interests."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from legos.predictor.interests import Aggregation, InterestsConfig, InterestsPredictor


@pytest.mark.parametrize("per_candidate", [False, True])
@pytest.mark.parametrize("aggregation", ["weighted", "max", "mean"])
def test_the_scores_of_all_interests_become_one(
    aggregation: Aggregation, per_candidate: bool
) -> None:
    predictor = InterestsPredictor(InterestsConfig(aggregation=aggregation), hidden_size=4).double()
    user = torch.randn(3, 5 if per_candidate else 1, 6, 4, dtype=torch.float64)
    candidates = torch.randn(3, 5, 4, dtype=torch.float64)
    found = predictor(user, candidates)
    for row in range(3):
        for column in range(5):
            interests = user[row, column if per_candidate else 0]
            candidate = candidates[row, column]
            scores = torch.stack([interest @ candidate for interest in interests])
            if aggregation == "weighted":
                dense = F.gelu(interests @ predictor.project.weight.T)
                expected = (dense @ candidate).softmax(0) @ scores
            else:
                expected = scores.max() if aggregation == "max" else scores.mean()
            torch.testing.assert_close(found[row, column], expected, rtol=0, atol=1e-12)

"""Predictors: user vectors × candidate vectors → scores."""

from legos.predictor.dot import Dot
from legos.predictor.mlp import MLPPredictor

__all__ = ["Dot", "MLPPredictor"]

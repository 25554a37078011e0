"""Predictors: user vectors × candidate vectors → scores."""

from legos.predictor.din import DIN
from legos.predictor.dot import Dot
from legos.predictor.interests import InterestsPredictor
from legos.predictor.mlp import MLPPredictor

__all__ = ["DIN", "Dot", "InterestsPredictor", "MLPPredictor"]

"""The assembled model: the only place where item encoder, user encoder and predictor meet."""

from legos.recommender.build import TokenTable, build_brick, build_recommender
from legos.recommender.model import Factors, Recommender, Scored, take

__all__ = [
    "Factors",
    "Recommender",
    "Scored",
    "TokenTable",
    "build_brick",
    "build_recommender",
    "take",
]

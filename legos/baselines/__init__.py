"""Baselines: methods that are fitted in seconds, without gradient steps."""

from legos.baselines.blend import ItemKNNTextCosine
from legos.baselines.chance import Random
from legos.baselines.ease import EASE
from legos.baselines.item_knn import ItemKNN
from legos.baselines.oracle import Oracle
from legos.baselines.popularity import Popularity
from legos.baselines.text_cosine import TextCosine

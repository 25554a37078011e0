"""Baselines: methods that are fitted in seconds, without gradient steps."""

from legos.baselines.blend import ItemKNNTextCosine
from legos.baselines.bm25 import BM25
from legos.baselines.chance import Random
from legos.baselines.ease import EASE
from legos.baselines.ease_texts import EASETexts
from legos.baselines.ials import IALS
from legos.baselines.item_knn import ItemKNN
from legos.baselines.oracle import Oracle
from legos.baselines.popularity import Popularity
from legos.baselines.recent_popularity import RecentPopularity
from legos.baselines.rp3beta import RP3Beta
from legos.baselines.slim import SLIM
from legos.baselines.text_cosine import TextCosine

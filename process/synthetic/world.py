"""Who likes what in the invented newsroom: news, users, and the probability of a click.

The click logit of user u, item i at time t is

    taste * interest[u, subcategory i] + angle_taste * leaning[u, angle i]
    + popularity * popularity_i + recency * exp(-age / 1 day) + intercept

and a share ``noise`` of all decisions ignores it. Interest and leaning are what a content model can
learn from a history; half of an item's popularity is its subcategory's, so that text tells it, the
other half its own; recency is planted against all models, none of which sees the clock.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from process.synthetic.stories import SUBCATEGORIES
from process.synthetic.topics import ANGLES, CATEGORIES

DAY = 86_400
FIRST_DAY = 1_573_257_600  # 9 November 2019, 00:00 UTC, when MIND-small's training days begin
DAYS_BEFORE = 14  # news of these days fills the first histories
NEWCOMERS = 0.1  # users that join, without any history, on one of the days
FAVOURITES = 3  # categories a user reads most
_CATEGORY = np.array([list(CATEGORIES).index(category) for category, _ in SUBCATEGORIES])
_SUBCATEGORIES_EACH = len(SUBCATEGORIES) // len(CATEGORIES)


@dataclass(frozen=True)
class NewsroomConfig:
    """Size and strength of the newsroom.

    The defaults are tuned for the quickstart: a best reachable AUC near .85, popularity near .57,
    and text that leads a small model most of the way in minutes.
    """

    seed: int = 1
    users: int = 3000
    news: int = 2000
    training_days: int = 6  # the last of them becomes `valid` when the tables are built
    impressions: float = 0.9  # mean a user and day
    candidates: tuple[int, int] = (8, 25)  # fewest and most shown in one impression
    clicks_before: float = 12.0  # mean length of a user's first history
    cold_share: float = 0.1  # candidates of a day that were never shown on an earlier one
    taste: float = 1.7  # weights of the logit, see the top of this module
    angle_taste: float = 0.6
    popularity: float = 0.7
    recency: float = 0.3
    noise: float = 0.15  # share of decisions that ignore the logit
    intercept: float = -3.4  # one to three clicks an impression


@dataclass(frozen=True)
class World:
    """The planted truth. ``N`` news, ``U`` users, ``S`` subcategories, ``A`` angles."""

    config: NewsroomConfig
    subcategory: np.ndarray  # (N,) int16, positions in SUBCATEGORIES
    angle: np.ndarray  # (N,) int8, positions in ANGLES
    popularity: np.ndarray  # (N,) float32, standard normal
    first_day: np.ndarray  # (N,) int16, first day an item can be shown; negative = before
    published: np.ndarray  # (N,) int64, Unix seconds, in the evening before its first day
    joined: np.ndarray  # (U,) int64, first day a user reads; -1 = has read before the first day
    interest: np.ndarray  # (U, S) float32
    leaning: np.ndarray  # (U, A) float32

    def taste(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """The part of the logit that content and history can tell, ``(n,)`` float32."""
        config = self.config
        return np.asarray(
            config.taste * self.interest[users, self.subcategory[items]]
            + config.angle_taste * self.leaning[users, self.angle[items]]
        )

    def click_probability(
        self, users: np.ndarray, items: np.ndarray, times: np.ndarray
    ) -> np.ndarray:
        """Probability that ``users`` click ``items`` when shown at ``times``, ``(n,)`` float32."""
        config = self.config
        age = (times - self.published[items]) / DAY
        logit = (
            self.taste(users, items)
            + config.popularity * self.popularity[items]
            + config.recency * np.exp(-age)
            + config.intercept
        )
        informed = 1 / (1 + np.exp(-logit))
        blind = 1 / (1 + np.exp(-config.intercept))
        probability: np.ndarray = (1 - config.noise) * informed + config.noise * blind
        return probability.astype(np.float32)


def make_world(config: NewsroomConfig, generator: np.random.Generator) -> World:
    """Draw news and users."""
    days = DAYS_BEFORE + config.training_days + 1
    first_day = np.sort(np.arange(config.news) % days) - DAYS_BEFORE
    evening = generator.integers(1, DAY // 4, config.news)
    subcategory = generator.permutation(np.arange(config.news) % len(SUBCATEGORIES))
    return World(
        config=config,
        subcategory=subcategory.astype(np.int16),
        angle=generator.integers(0, len(ANGLES), config.news).astype(np.int8),
        popularity=_popularity(subcategory, generator),
        first_day=first_day.astype(np.int16),
        published=FIRST_DAY + first_day.astype(np.int64) * DAY - evening,
        joined=_joining_days(config, generator),
        interest=_interests(config, generator),
        leaning=_leanings(config, generator),
    )


def _joining_days(config: NewsroomConfig, generator: np.random.Generator) -> np.ndarray:
    day = generator.integers(0, config.training_days + 1, config.users)
    return np.where(generator.random(config.users) < NEWCOMERS, day, -1)


def _interests(config: NewsroomConfig, generator: np.random.Generator) -> np.ndarray:
    """Three favourite categories a user, in each of them two favoured subcategories; ``(U, S)``."""
    order = generator.random((config.users, len(CATEGORIES))).argsort(axis=1)
    favourite = (order < FAVOURITES)[:, _CATEGORY]
    finer = generator.random((config.users, len(CATEGORIES), _SUBCATEGORIES_EACH)).argsort(axis=2)
    favoured = (finer < _SUBCATEGORIES_EACH // 2).reshape(config.users, -1)
    return np.where(favourite, np.where(favoured, 2.0, 1.0), -0.4).astype(np.float32)


def _popularity(subcategory: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Half from the subcategory, so that text can tell it, half an item's own; ``(N,)``."""
    shared = generator.standard_normal(len(SUBCATEGORIES))[subcategory]
    own = generator.standard_normal(len(subcategory))
    mixed: np.ndarray = (shared + own) / np.sqrt(2)
    return mixed.astype(np.float32)


def _leanings(config: NewsroomConfig, generator: np.random.Generator) -> np.ndarray:
    """Two angles a user likes to read, four they do not; ``(U, A)``."""
    order = generator.random((config.users, len(ANGLES))).argsort(axis=1)
    return np.where(order < 2, 1.0, -0.5).astype(np.float32)

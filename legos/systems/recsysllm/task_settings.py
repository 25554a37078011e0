"""Settings of the task families. Torch is not imported here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from legos.settings import CONTENT, Count, Natural, NotNegative, Settings
from legos.systems.recsysllm.settings import HorizonSettings

SplitName = Literal["train", "valid", "test"]
ReviewSplit = Literal["consistent", "p5"]
AROUND_ANSWER = 2
"""Tokens of a blank besides its own: the mask, [START]."""


class TaskSettings(Settings):
    """Which examples are made, and of what."""

    split: ReviewSplit = "consistent"
    """`consistent`: reviews of held-out pairs of the sequences are in no training example; `p5`:
    80/10/10 of all reviews at random as P5 did, which shows about 80 % of the sequential test pairs
    to the families with reviews."""
    item_text: Literal["title", "id"] = "title"
    """What stands for an item: its title, or `item_` and its number as in P5."""
    explanations: Annotated[Path | None, CONTENT] = None
    """Published explanations as JSON lines, made of a pickle by `python -m process.explanations`;
    null: sentences found by feature and opinion words, not comparable with published numbers."""
    max_name_words: Count = 30
    """Longer titles are cut, before equal ones are told apart."""
    history: Literal["horizon", "p5"] = "horizon"
    """`horizon`: the last event of a drawn window is asked for; `p5`: one of the last 4 training
    events after a start among the first 3."""
    horizons: HorizonSettings = HorizonSettings()
    """Windows of the past, and the most events shown; `by: count` where times are unknown."""
    num_negatives: Count = 19
    """Wrong candidates beside the right one in a training prompt (99 in P5, whose items are short
    ids: 100 titles are some 1,800 tokens of a 1,024-token prompt). Frozen candidates of valid and
    test have a number of their own."""
    next_samples: Natural = 5
    """Next-item examples of a user and epoch (P5)."""
    choose_samples: Natural = 5
    """Sequential examples with candidates (P5)."""
    will_samples: Natural = 10
    """Sequential examples of yes or no (P5)."""
    direct_will_samples: Natural = 10
    """Direct examples of yes or no (P5)."""
    direct_choose_samples: Natural = 5
    """Direct examples with candidates (P5)."""
    rating_jitter: NotNegative = 0.2
    """Standard deviation of the noise on training ratings, which are written with one decimal."""
    max_body_words: Count = 256
    """Longer reviews lose their ends."""
    max_answer_tokens: Count = 64
    """Longer sentences and headlines lose their ends; items never do: where one is longer, its
    tokens are the most."""
    max_tokens: Count = 1024
    """The most tokens of a prompt and its answer (1024 in the paper)."""
    rating_weight: NotNegative = 1.0
    """Share of the family in a mixture; families without data have none."""
    sequential_weight: NotNegative = 1.0
    """The same."""
    explanation_weight: NotNegative = 1.0
    """The same."""
    review_weight: NotNegative = 1.0
    """The same."""
    direct_weight: NotNegative = 1.0
    """The same."""

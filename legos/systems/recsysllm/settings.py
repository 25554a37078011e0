"""Settings of RecSysLLM's data, masks and positions; every choice the paper leaves open is one.

Torch is not imported here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from legos.settings import CONTENT, Count, Natural, NotNegative, Positive, Settings

IntraMode = Literal["paper", "run", "glm"]
Share = Annotated[float, Field(gt=0, le=1)]


class PositionSettings(Settings):
    """The two position ids of every token, and what a training example consists of."""

    removed: ClassVar[Mapping[str, Any]] = {
        "intra_source": "automaton", "entities_in_prompt": True, "first_in_entity": 1,
        "single_token_entity": 1, "first_offset": True, "dead_prefix": "commit", "inter_base": 0,
    }  # fmt: skip
    intra_mode: IntraMode = "paper"
    """How tokens of a filled blank are numbered: `paper`: every unit anew from 1, plain tokens are
    units of their own; `run`: consecutive plain tokens are one unit; `glm`: counted through."""
    prepend_cls: bool = False
    """Begin every example with [CLS], as GLM's tokenizer does; it counts as a position."""
    shuffle_spans: bool = False
    """Fill blanks in random order as GLM does; the paper keeps their order in time."""
    max_tokens: Count = 1024
    """The most tokens of Part A and Part B together (1024 in the paper)."""


class MaskingSettings(Settings):
    """Which blanks are cut into documents."""

    removed: ClassVar[Mapping[str, Any]] = {"length_in": "tokens"}
    entity_weight: NotNegative = 0.5
    """Share of documents with entity-level blanks (GLM-10B's configuration; the paper: silent)."""
    sentence_weight: NotNegative = 0.3
    """Share with sentence-level blanks."""
    document_weight: NotNegative = 0.2
    """Share with one long blank."""
    ratio: Share = 0.15
    """Entity level: blanks are added until this share of the tokens is masked."""
    sentence_ratio: Share = 0.15
    """The same at sentence level."""
    mean_length: Positive = 3.0
    """Mean of the Poisson distribution of a blank's length."""
    max_length: Count = 39
    """The longest blank that is drawn; it may grow to the end of an entity."""
    whole_entities: bool = True
    """An entity is masked as a whole or not at all (the paper); off: token by token, as in GLM."""
    tries: Count = 50
    """Draws of a document at entity level before what was found is enough."""
    document_min: Share = 0.5
    """Shortest long blank as a share of the document (the paper; 0.25 in GLM-10B)."""

    @model_validator(mode="after")
    def _some_weight(self) -> Self:
        if self.entity_weight + self.sentence_weight + self.document_weight <= 0:
            raise ValueError("entity_weight, sentence_weight and document_weight are all 0")
        return self


class HorizonSettings(Settings):
    """Which part of a user's past a training document tells."""

    removed: ClassVar[Mapping[str, Any]] = {"anchor": "random"}
    long_weight: NotNegative = 0.10
    """Share of documents over the whole past (the paper)."""
    medium_weight: NotNegative = 0.30
    """Share over weeks and months (the paper)."""
    short_weight: NotNegative = 0.60
    """Share over days (the paper)."""
    by: Literal["time", "count"] = "time"
    """Windows in days, or in numbers of events where times are coarse or unknown."""
    short_days: Positive = 7.0
    """The short window."""
    medium_days: Positive = 90.0
    """The medium window."""
    short_events: Count = 3
    """The short window in events."""
    medium_events: Count = 10
    """The medium window in events."""
    max_items: Count = 20
    """The most events of a document; of a longer window the latest, of the long one any."""
    min_items: Count = 2
    """With fewer the next longer window is taken."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.long_weight + self.medium_weight + self.short_weight <= 0:
            raise ValueError("long_weight, medium_weight and short_weight are all 0")
        if self.min_items > self.max_items:
            raise ValueError(f"min_items {self.min_items} is more than max_items {self.max_items}")
        return self


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

"""Settings of RecSysLLM's data, masks and positions; every choice the paper leaves open is one.

Torch is not imported here.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from legos.settings import Count, NotNegative, Positive, Settings

IntraMode = Literal["paper", "run", "glm"]
Share = Annotated[float, Field(gt=0, le=1)]


class PositionSettings(Settings):
    """The two position ids of every token, and what a training example consists of."""

    intra_mode: IntraMode = "paper"
    """How tokens of a filled blank are numbered: `paper`: every unit anew from 1, plain tokens are
    units of their own; `run`: consecutive plain tokens are one unit; `glm`: counted through."""
    intra_source: Literal["automaton", "gold"] = "automaton"
    """`automaton`: the numbering of inference, which finds entities by their tokens; `gold`: by the
    bounds of the data's own units."""
    entities_in_prompt: bool = True
    """Number the tokens of entities in Part A too; off: zeros, as in GLM."""
    first_in_entity: Literal[0, 1] = 1
    """The first token of an entity in Part A; 0 is what plain tokens have."""
    single_token_entity: Literal[0, 1] = 1
    """An entity of one token in Part A; 0: like a plain token."""
    first_offset: bool = True
    """The first unit of a blank counts on from its [START]; off: it begins at 1 like all others, so
    that an entity always has the same ids."""
    dead_prefix: Literal["commit", "rollback"] = "commit"
    """What began like an entity and is none: `commit`: its ids stay; `rollback`: it is numbered
    again as what it turned out to be."""
    inter_base: Literal[0, 1] = 0
    """Position of the first token (0 in GLM's code, 1 in the figure of its paper)."""
    prepend_cls: bool = False
    """Begin every example with [CLS], as GLM's tokenizer does; it counts as a position."""
    shuffle_spans: bool = False
    """Fill blanks in random order as GLM does; the paper keeps their order in time."""
    max_tokens: Count = 1024
    """The most tokens of Part A and Part B together (1024 in the paper)."""


class MaskingSettings(Settings):
    """Which blanks are cut into documents."""

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
    length_in: Literal["tokens", "units"] = "tokens"
    """What that length counts."""
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
    anchor: Literal["random", "last"] = "random"
    """Where the window ends: at any train event of the user, or at the last."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.long_weight + self.medium_weight + self.short_weight <= 0:
            raise ValueError("long_weight, medium_weight and short_weight are all 0")
        if self.min_items > self.max_items:
            raise ValueError(f"min_items {self.min_items} is more than max_items {self.max_items}")
        return self

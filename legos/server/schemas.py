"""Schemas of requests and answers; every length and number is bounded."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints
from pydantic import model_validator as validator

MOST_ITEMS = 1_000
"""Items of a list, of a history and of a request for scores."""
MOST_READERS = 100
MOST_NEW_ITEMS = 1_000
LONGEST_ID, LONGEST_TEXT = 500, 20_000


def _as_text(value: Any) -> Any:
    """Accept a number as the id with the same digits."""
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Id = Annotated[
    str,
    BeforeValidator(_as_text, json_schema_input_type=str | int),
    StringConstraints(min_length=1, max_length=LONGEST_ID),
]
Text = Annotated[str, StringConstraints(max_length=LONGEST_TEXT)]
Whole = Annotated[int, Field(ge=-(2**63), lt=2**63)]  # ids are exact, a float is not
Number = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=MOST_ITEMS)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Reader(_Request):
    """A user of the data set, or a new user given by a history."""

    user: Id | None = Field(default=None, description="id of a user", examples=["c17"])
    history: list[Id] | None = Field(
        default=None,
        max_length=MOST_ITEMS,
        description="history of a new user: item ids, oldest first; may be empty",
    )

    @validator(mode="after")
    def _either(self) -> Self:
        if (self.user is None) == (self.history is None):
            raise ValueError("expected either user or history")
        return self

    @property
    def key(self) -> str | list[str]:
        """The reader as the recommender expects it: the id of a user, or ids of items."""
        return self.user if self.user is not None else self.history or []


class RecommendRequest(Reader):
    """Ask for the items with the highest scores."""

    k: Count = Field(default=10, description="length of the list")
    exclude_seen: bool = Field(default=True, description="leave out items of the history")


class SimilarRequest(_Request):
    """Ask for the items whose vectors are nearest to that of an item."""

    item: Id
    k: Count = 10


class ReasonsRequest(Reader):
    """Ask how much each item of a history contributes to the score of an item."""

    item: Id


class ScoreRequest(_Request):
    """Ask for the scores of some items for some users."""

    users: list[Id] = Field(min_length=1, max_length=MOST_READERS)
    items: list[Id] = Field(min_length=1, max_length=MOST_ITEMS)


class NewItem(BaseModel):
    """A new item: its id, and its content in the fields of the data set.

    Fields may also have the names of the columns that the tables were made from.
    """

    model_config = ConfigDict(extra="allow", strict=True, frozen=True)
    __pydantic_extra__: dict[str, Text | Whole | Number | None]

    item_id: Id | None = Field(
        default=None, description="required, unless the column of your own file has it"
    )


class AddRequest(_Request):
    """Add new items by their content."""

    items: list[NewItem] = Field(
        min_length=1,
        max_length=MOST_NEW_ITEMS,
        examples=[[{"item_id": "new-1", "title": "Oak desk lamp"}]],
    )


class ReloadRequest(_Request):
    """Reload the newest run; the body is empty."""


class Item(BaseModel):
    """An item as the page shows it."""

    item_id: str
    title: str
    labels: list[str] = Field(description="short fields such as category and brand")


class ScoredItem(Item):
    """An item of a list, best first."""

    score: float


class Reason(Item):
    """An item of a history, with the share of the score that is lost without it."""

    share: float


class ItemList(BaseModel):
    """Items by score, and the run that scored them."""

    items: list[ScoredItem]
    run: str


class Recommended(ItemList):
    """The items for one reader."""

    notice: str | None = Field(
        default=None, description="why these are the most popular items: there is no history"
    )


class Reasons(BaseModel):
    """Items of the history by their share in the score."""

    reasons: list[Reason]
    run: str


class Scores(BaseModel):
    """``scores[i][j]`` is that of item j for user i."""

    scores: list[list[float]]
    run: str


class Added(BaseModel):
    """Ids of the items that can be recommended from now on."""

    added: list[str]
    run: str
    kept: str = "until the server ends"


class Found(BaseModel):
    """Items or users that match a search."""

    items: list[Item] = []
    users: list[str] = []


class Candidates(BaseModel):
    """How the best items are found: ``exact``, or ``faiss`` with its measured recall."""

    kind: str
    index: str | None = None
    recall: float | None = Field(
        default=None, description="share of the exact top items that the index finds, on a sample"
    )
    sample: int | None = Field(default=None, description="number of users in that sample")


class Reload(BaseModel):
    """The last attempt to open a newer run."""

    at: str
    run: str
    error: str | None = None
    lost_items: list[str] = Field(default=[], description="added items that were lost on reload")


class Health(BaseModel):
    """The state of the server. Without the API key, if one is set, only ``status``."""

    status: str
    run: str | None = None
    model: str | None = None
    items: int | None = None
    users: int | None = None
    new_items: int | None = None
    fields: list[str] | None = Field(default=None, description="fields of a new item")
    since: str | None = Field(default=None, description="time the run was opened (ISO, UTC)")
    queue: int | None = Field(default=None, description="waiting requests")
    candidates: Candidates | None = None
    reload: Reload | None = None


class Fault(BaseModel):
    """One fault of a request."""

    field: str
    found: str
    expected: str
    nearest: list[str] = []


class Refused(BaseModel):
    """Why a request was refused: in one line (``error``) and by field (``faults``)."""

    error: str
    faults: list[Fault] = []

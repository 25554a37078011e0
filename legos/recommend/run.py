"""A trained run as a recommender, by the raw ids of users and items."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import ConfigError, DataError
from legos.metrics.beyond import ALL
from legos.recommend.catalogue import Catalogue, Opened
from legos.recommend.everyone import PAGE, write_lists
from legos.recommend.lists import Listed, NoHistory, find_lists, notice_of_many
from legos.recommend.new_items import read_new_items
from legos.recommend.origin import origin_of
from legos.recommend.readers import AReader, Reader, Readership, as_readers, by_user
from legos.recommend.reasons import shares_of_clicks
from legos.recommend.session import Session, refuse_size
from legos.runs.folder import RunFolder
from legos.sharing import Sharing
from legos.systems.protocol import Recommending


class TrainedRun:
    """A trained run that recommends; ``legos.open`` opens one.

    Ids of users and items are those of the raw data. Nothing is computed before it is asked for:
    the first call reads the model and encodes all items. Any number of threads may ask at once.
    Equal scores stand in the order of the items in the tables; items that a language model wrote
    for single users are never listed. The same question has the same answer.

    Args:
        folder: of the run.
        config: its configuration, on the tables that are read.
        tables: that were found to be those of the training.
        load: opens it.
    """

    def __init__(
        self, folder: Path, config: RunConfig, tables: Tables, load: Callable[[], Opened]
    ) -> None:
        self.folder, self.config, self.tables = folder, config, tables
        self.name = f"{config.data.name}/{config.model.name}/{folder.name}"
        self._load, self._lock = load, RLock()
        self._catalogue: Catalogue | None = None
        self._readership = Readership(tables, config)

    def __repr__(self) -> str:
        return f"<legos run {self.name}>"

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """What the run reached, by test split and metric."""
        results = RunFolder(self.folder).results() or {}
        return {name: dict(split["rows"][ALL]) for name, split in results.get("splits", {}).items()}

    @property
    def items(self) -> pd.DataFrame:
        """Every item that may be recommended: item_id and what its fields say."""
        return self.catalogue.table()

    @property
    def users(self) -> list[str]:
        """Ids of all users."""
        return self._readership.users

    @property
    def catalogue(self) -> Catalogue:
        """The items as they are now and the model, both read at the first call."""
        with self._lock:
            if self._catalogue is None:
                self._catalogue = Catalogue.of(self.tables, self._opened.model)
            return self._catalogue

    @property
    def sharing(self) -> Sharing:
        """How processes that were started together share work."""
        return self._opened.workplace.sharing

    @property
    def accelerator(self) -> Accelerator:
        """Device, precision and processes."""
        return self._opened.workplace.accelerator

    @property
    def writes(self) -> bool:
        """Whether it rates, explains and writes headlines."""
        return hasattr(self.catalogue.model, "explain")

    @cached_property
    def _opened(self) -> Opened:
        return self._load()

    def recommend(
        self,
        user: str | int | None = None,
        *,
        history: Sequence[str | int] | None = None,
        k: int = 10,
        exclude_seen: bool = True,
        before: str | None = None,
    ) -> pd.DataFrame:
        """Recommend items.

        Args:
            user: id of a user of the data; None: somebody new, of whom the history is all there is.
            history: ids of items, oldest first. None: all that the data say the user has had. A
                reader without any history gets the most popular items, and a warning says so.
            k: items of the list; fewer come where there are fewer.
            exclude_seen: leave out items of the history, over all splits of the data, or the
                given history.
            before: a split. As in its evaluation: the history before the user's last impression in
                it, and lists without what ``exp.evaluate.exclude`` names.

        Returns:
            item_id, score and title, the best first; of a model that searches also whether the
            rank is proven.

        Raises:
            DataError: there is no such user or item.
            ConfigError: what is asked for cannot be, or not by this model.
        """
        refuse_size(k)
        reader = Reader(user, history, before)
        (found,) = self._frames(self.catalogue, [reader], k, exclude_seen)
        if notice := found.attrs.get("notice"):
            warnings.warn(notice, NoHistory, stacklevel=2)
        return found

    def recommend_many(
        self, readers: Sequence[AReader], k: int = 10, *, exclude_seen: bool = True
    ) -> list[pd.DataFrame]:
        """One list a reader, scored together; see :meth:`recommend`.

        Args:
            readers: each a user's id, a list of item ids, or a :class:`Reader`.
        """
        refuse_size(k)
        found = self._frames(self.catalogue, readers, k, exclude_seen)
        if popular := sum("notice" in frame.attrs for frame in found):
            warnings.warn(notice_of_many(popular, len(found)), NoHistory, stacklevel=2)
        return found

    def best_ids(
        self, readers: Sequence[AReader], k: int = 10, *, exclude_seen: bool = True
    ) -> list[Listed]:
        """The same lists as plain values: a frame costs as much as finding the list."""
        refuse_size(k)
        return find_lists(
            self.catalogue, self._readership, readers, k, exclude_seen=exclude_seen
        ).plain()

    def _frames(
        self, catalogue: Catalogue, readers: Sequence[AReader], k: int, exclude_seen: bool
    ) -> list[pd.DataFrame]:
        return find_lists(
            catalogue, self._readership, readers, k, exclude_seen=exclude_seen
        ).frames()

    def score(self, users: Sequence[AReader], items: Sequence[str | int]) -> pd.DataFrame:
        """Scores of items for readers: a row each of ``users``, a column each of ``items``."""
        catalogue = self.catalogue
        users = [users] if isinstance(users, str | int) else users
        items = [items] if isinstance(items, str | int) else items
        asked = [self._readership.ask(reader, catalogue) for reader in users]
        numbers = catalogue.numbers(items)
        if not asked or not len(numbers):
            raise ConfigError("score: expected at least one reader and one item")
        scores = catalogue.model.scores(as_readers(asked), numbers).numpy()
        names = [
            str(reader) if isinstance(reader, str | int) else f"reader {row}"
            for row, reader in enumerate(users)
        ]
        return pd.DataFrame(scores, names, [str(item) for item in items])

    def similar(self, item: str | int, k: int = 10) -> pd.DataFrame:
        """The items of the largest cosine between item vectors, without the item itself.

        The cosine, whatever the model scores by: an inner product prefers long vectors, which are
        those of popular items, whatever item is asked about. A baseline without vectors lists the
        items of the highest scores for a history of this item alone.

        Raises:
            ConfigError: the model has no vectors of items.
        """
        refuse_size(k)
        catalogue = self.catalogue
        best = catalogue.similar(self._item(item), k)
        return catalogue.frame(best.items[0], best.scores[0])

    def reasons(
        self,
        item: str | int,
        user: str | int | None = None,
        *,
        history: Sequence[str | int] | None = None,
    ) -> pd.DataFrame:
        """Which clicks of a history speak for an item: the share of each in its score.

        See :func:`legos.recommend.reasons.shares_of_clicks`.

        Returns:
            item_id, title and share of every click, the largest share first.
        """
        catalogue = self.catalogue
        asked = self._readership.ask(Reader(user, history), catalogue)
        read, shares = shares_of_clicks(catalogue.model, asked, catalogue.numbers([item]))
        order = shares.argsort(descending=True, stable=True)
        found = catalogue.frame(torch.from_numpy(read)[order], shares[order], "share")
        return found[["item_id", "title", "share"]]

    def history(self, user: str | int, before: str | None = None) -> pd.DataFrame:
        """What a user has had, oldest first: item_id and title; ``before``: see :class:`Reader`."""
        catalogue = self.catalogue
        numbers = self._readership.ask(Reader(user, None, before), catalogue).history
        titles = catalogue.titles(numbers)
        return pd.DataFrame({"item_id": catalogue.ids[numbers], "title": titles})

    def item_vectors(self) -> pd.DataFrame:
        """The vectors of all items that may be recommended: a row each, by item_id.

        Raises:
            ConfigError: the model has none.
        """
        catalogue = self.catalogue
        offered = catalogue.model.offered.numpy()
        vectors = catalogue.model.item_vectors().numpy()[offered]
        return pd.DataFrame(vectors, pd.Index(catalogue.ids[offered], name="item_id"))

    def user_vectors(self) -> pd.DataFrame:
        """The vectors of all users, with all they have had: a row each, by user_id.

        A model of several interests gives a row an interest, by user_id and interest.

        Raises:
            ConfigError: the model has none.
        """
        return by_user(self.users, self.reader_vectors(self.users))

    def reader_vectors(self, readers: Sequence[AReader]) -> np.ndarray:
        """Vectors of readers, ``(R, D)`` float32, or ``(R, K, D)`` of several interests.

        ``catalogue.model.similarity`` says how they and those of items give scores.
        """
        catalogue = self.catalogue
        asked = [self._readership.ask(reader, catalogue) for reader in readers]
        return catalogue.model.reader_vectors(as_readers(asked)).numpy()

    def add_items(self, frame: pd.DataFrame) -> list[str]:
        """Add new items by their content; they are recommended at once, in this object.

        Args:
            frame: column (or index) ``item_id`` and every text field that the model reads (empty
                where unknown); categories and numbers may be missing. Other columns are not read.

        Returns:
            Their ids.

        Raises:
            DataError: an id that already exists or twice, a missing column, an item without any
                text.
            ConfigError: the model reads nothing of what a new item says.
        """
        with self._lock:
            catalogue = self.catalogue
            items = read_new_items(frame, self.tables, catalogue.model.reads, catalogue.rows)
            self._catalogue = catalogue.with_items(items)
        return list(items.ids)

    def recommend_all(
        self,
        k: int = 50,
        output: str | Path = "recommendations.parquet",
        *,
        users: Sequence[str | int] | None = None,
        exclude_seen: bool = True,
        before: str | None = None,
        page: int = PAGE,
    ) -> Path:
        """Write the lists of all users, see :func:`legos.recommend.everyone.write_lists`.

        Processes that were started together (``torchrun``) share the users; each calls this. A call
        that was killed goes on where it stopped.

        Args:
            k: items of a list at most.
            output: a ``.parquet``, ``.csv`` or ``.jsonl`` file with user_id, rank, item_id, score;
                a JSON file beside it says which run made it.
            users: which; None: all, or all of the split that ``before`` names.
            exclude_seen, before: as in :meth:`recommend`.
            page: users that are done together.

        Raises:
            ConfigError: another kind of file, or k below 1.
            DataError: there is no such user or split.
            InUseError: another process is writing this file.
        """
        refuse_size(k)
        chosen = self._readership.chosen(users, before)
        popular = self._readership.without_history(chosen, before)
        if popular:
            warnings.warn(notice_of_many(len(popular), len(chosen)), NoHistory, stacklevel=2)
        catalogue = self.catalogue
        origin = origin_of(self.folder, self.config, self.tables)
        facts = {
            **{key: origin[key] for key in ("run", "checkpoint", "tables")},
            "added": catalogue.content(self.tables.num_items),
            "k": int(k),
            "exclude_seen": exclude_seen,
            "before": before,
        }

        def lists(some: Sequence[str]) -> list[pd.DataFrame]:
            readers = [Reader(user, None, before) for user in some]
            return self._frames(catalogue, readers, k, exclude_seen)

        return write_lists(
            Path(output),
            chosen,
            lists,
            facts=facts,
            origin={**origin, "without_history": popular},
            sharing=self.sharing,
            page=page,
        )

    def session(self, user: str | int) -> Session:
        """Serve one user whose history stays in memory as keys and values (CLLM4Rec).

        Raises:
            DataError: there is no such user.
            ConfigError: the model keeps nothing of a history, or cannot.
        """
        catalogue, number = self.catalogue, self._readership.number(user)
        open_session: Callable[..., Any] | None = getattr(catalogue.model, "session", None)
        if open_session is None:
            raise ConfigError(
                f"session: model {self.config.model.name} (system {self.config.model.system}) "
                "reads the whole history each time; use recommend(history=...)"
            )
        items = torch.unique(self._readership.histories.row(number))  # ascending, as prompts are
        return Session(catalogue, open_session(number, items))

    def find_by(self, model: Recommending) -> None:
        """Let another model make the lists, such as one with an index over the same vectors."""
        with self._lock:
            self._catalogue = replace(self.catalogue, model=model)

    def rate(self, user: str | int | None, item: str | int) -> float:
        """The stars that a user, None for somebody new, would give an item (RecSysLLM)."""
        stars: float = self._able("rate")(self._readership.number(user), self._item(item))
        return stars

    def explain(self, user: str | int | None, item: str | int) -> str:
        """One sentence on what a user, None for somebody new, may like about an item."""
        sentence: str = self._able("explain")(self._readership.number(user), self._item(item))
        return sentence

    def headline(self, review: str, user: str | int | None = None) -> str:
        """A headline for the text of a review (RecSysLLM)."""
        if not review.strip():
            raise DataError("headline: the review is empty")
        headline: str = self._able("headline")(review, self._readership.number(user))
        return headline

    def _able(self, what: str) -> Callable[..., Any]:
        found: Callable[..., Any] | None = getattr(self.catalogue.model, what, None)
        if found is None:
            raise ConfigError(
                f"{what}: model {self.config.model.name} (system {self.config.model.system}) "
                "does not generate text; use system recsysllm"
            )
        return found

    def _item(self, item: str | int) -> int:
        """Number of an item."""
        return int(self.catalogue.numbers([item])[0])

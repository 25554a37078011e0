"""The requests of a scheme, from finished tables of any data set: one an item, or users' rounds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from legos.data.ragged import RaggedArray
from legos.data.tables import Tables
from legos.data.tokenizers import UNKNOWN
from legos.errors import ConfigError, DataError, nearest
from legos.files import sha256_of_text
from process.genre.histories import user_histories
from process.genre.scheme import FOLDER, ClosedList, Scheme, load_scheme, one_line
from process.genre.store import Store
from process.genre.types import Answer, Request, Sampling


@dataclass(frozen=True)
class Selection:
    """Which items or users are asked about."""

    history: str = "train"
    """Which clicks of a user are read: `process.genre.histories.MEANING`."""
    sample: int | None = None
    """So many items or users, always the same; a larger sample holds a smaller one."""
    cold_at_most: int | None = None
    """In place of the scheme's limit."""
    keys: tuple[str, ...] = ()
    """Only these items or users, or rounds of them (``U7#1``); empty is all."""


@dataclass
class Requests:
    """The requests of a scheme.

    Args:
        scheme: what is asked.
        tables: about whom.
        sampling: model and how it is asked; a temperature of None is the scheme's.
        selection: which items or users.
        profiles: the store of the scheme that this one needs.

    Raises:
        ConfigError: the tables lack what the scheme shows.
    """

    scheme: Scheme
    tables: Tables
    sampling: Sampling
    selection: Selection = field(default_factory=Selection)
    profiles: Store | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    """Why items or users are not asked about, and how many; complete after the last request."""

    def __iter__(self) -> Iterator[Request]:
        self.left_out.clear()
        yield from self._of_items() if self.scheme.about == "item" else self._of_users()

    @cached_property
    def shown(self) -> list[dict[str, str]]:
        """What of each item is shown, field by field."""
        columns = {
            name: [one_line(text, words) for text in _texts(self.tables, name, self.scheme)]
            for name, words in self.scheme.fields.items()
        }
        rows = zip(*columns.values(), strict=True)
        return [
            {name: text for name, text in zip(columns, row, strict=True) if text} for row in rows
        ]

    @cached_property
    def lists(self) -> dict[str, list[str]]:
        """The closed lists of the scheme."""
        return {name: self._list(name, given) for name, given in self.scheme.lists.items()}

    @cached_property
    def histories(self) -> RaggedArray:
        """The clicks of every user that may be shown, not yet cut."""
        return user_histories(self.tables, self.selection.history)

    def _list(self, name: str, given: list[str] | ClosedList) -> list[str]:
        if isinstance(given, list):
            return given
        known = self.tables.manifest["vocabularies"]
        if given.vocabulary not in known:
            raise ConfigError(
                f"scheme {self.scheme.name}: lists.{name}: {self.tables.folder} has no vocabulary "
                f"{given.vocabulary!r}; {nearest(given.vocabulary, known)}"
            )
        hidden = {UNKNOWN, "", *given.without}
        return [entry for entry in self.tables.vocabulary(given.vocabulary) if entry not in hidden]

    def _of_items(self) -> Iterator[Request]:
        ids = self.tables.vocabulary("item_id")
        eligible = [row for row, fields in enumerate(self.shown) if fields]
        self.left_out["items without text"] += len(ids) - len(eligible)
        for row in self._chosen(eligible, ids, "items"):
            text = self.scheme.entry_text(self.shown[row], between="\n")
            yield self._request(ids[row], {"item": text}, {}, 0)

    def _of_users(self) -> Iterator[Request]:
        ids, limits = self.tables.vocabulary("user_id"), self.scheme.limits
        most = self.selection.cold_at_most or limits.at_most
        lengths = self.histories.lengths.tolist()
        self.left_out["users without clicks"] += lengths.count(0)
        eligible = [row for row, length in enumerate(lengths) if length]
        few = [row for row in eligible if lengths[row] >= limits.at_least]
        self.left_out[f"users with less than {limits.at_least} clicks"] += len(eligible) - len(few)
        asked = [row for row in few if most is None or lengths[row] <= most]
        self.left_out[f"users with more than {most} clicks"] += len(few) - len(asked)
        profiles = self._profiles() if self.scheme.needs else {}
        for row in self._chosen(asked, ids, "users"):
            shown = self.history_rows(row)
            if self.scheme.needs and ids[row] not in profiles:
                self.left_out["users whose profile was refused"] += 1
                continue
            slots = {"history": self._history_text(shown), "profile": profiles.get(ids[row], "")}
            numbers = {"history_length": len(shown), "picks": min(limits.picks, len(shown))}
            for number in range(len(self.scheme.rounds)):
                request = self._request(ids[row], slots, numbers, number)
                if self._is_wanted(request.key):
                    yield request

    def history_rows(self, user: int) -> list[int]:
        """The item rows of a user that are shown, oldest first."""
        rows: list[int] = self.histories.row(user).tolist()
        return rows[-self.scheme.limits.history :]

    def _history_text(self, rows: Sequence[int]) -> str:
        lines = []
        for number, row in enumerate(rows, start=1):
            text = self.scheme.entry_text(self.shown[row], between="; ")
            lines.append(f"({number}) {text or 'no text'}")
        return "\n".join(lines)

    def _is_wanted(self, key: str) -> bool:
        keys = self.selection.keys
        return not keys or any(is_of(key, one) for one in keys)

    def _chosen(self, rows: list[int], ids: Sequence[str], what: str) -> list[int]:
        """The rows that are asked for by key; else those whose id has the smallest hashes."""
        if self.selection.keys:
            keys = {one for key in self.selection.keys for one in (key, key.rpartition("#")[0])}
            return [row for row in rows if ids[row] in keys]
        wanted = self.selection.sample
        if wanted is None or wanted >= len(rows):
            return rows
        self.left_out[f"{what} outside the sample"] += len(rows) - wanted
        return sorted(sorted(rows, key=lambda row: sha256_of_text(ids[row]))[:wanted])

    def _request(
        self, key: str, slots: Mapping[str, str], numbers: Mapping[str, int], number: int
    ) -> Request:
        scheme = self.scheme
        words = {name: str(value) for name, value in numbers.items()}
        texts = {**slots, **words, "round": scheme.rounds[number]}
        request = Request(
            key=f"{key}#{number + 1}" if scheme.task == "generator" else key,
            messages=scheme.messages(texts, self.lists),
            schema=scheme.answer_schema(numbers, self.lists),
            max_tokens=scheme.max_tokens,
            hash="",
            scheme=scheme.name,
            version=scheme.version,
            source=self.selection.history if scheme.about == "user" else "",
            sampling=replace(
                self.sampling,
                seed=self.sampling.seed + number,
                frequency_penalty=scheme.frequency_penalty,
            ),
        )
        return replace(request, hash=_hash(request))

    def _profiles(self) -> dict[str, str]:
        """What the profiler said of the very users, histories and model, by user id.

        Raises:
            DataError: some were not asked yet; names the command that does it.
        """
        needed = load_scheme(str(self.scheme.needs), FOLDER)
        sampling = replace(self.sampling, temperature=needed.temperature)
        limits = needed.limits.model_copy(update={"at_most": self.scheme.limits.at_most})
        asked = Requests(
            needed.model_copy(update={"limits": limits}), self.tables, sampling, self.selection
        )
        found: dict[str, str] = {}
        missing = 0
        refused = self.profiles.refused_hashes if self.profiles else set()
        for request in asked:
            if self.profiles is not None and request.hash in self.profiles:
                answer = self.profiles[request.hash]
                found[request.key] = profile_text(answer, self.scheme.profile_list)
            else:
                missing += request.hash not in refused
        if missing:
            raise DataError(self._ask_first(needed, missing))
        return found

    def _ask_first(self, needed: Scheme, missing: int) -> str:
        most = self.selection.cold_at_most or self.scheme.limits.at_most
        parts = [f"--scheme {needed.name} --data {self.tables.folder}"]
        if self.profiles is not None:
            parts.append(f"--store {self.profiles.path.parent}")
        parts.append(f"--history {self.selection.history}")
        if most is not None:
            parts.append(f"--cold-at-most {most}")
        if self.selection.sample is not None:
            parts.append(f"--users {self.selection.sample}")
        if self.sampling.seed:
            parts.append(f"--seed {self.sampling.seed}")
        if self.sampling.model:
            parts.append(f"--model {self.sampling.model}")
        return (
            f"scheme {self.scheme.name} needs the profiles of its users, and {missing:,} were not "
            f"asked yet (same model, seed and history); first run\n"
            f"  python -m process.genre run {' '.join(parts)}"
        )


def is_of(key: str, wanted: str) -> bool:
    """Whether a key is the one wanted, or a round of the user wanted: ``U7#1`` is of ``U7``."""
    user, _, number = key.rpartition("#")
    return key == wanted or (user == wanted and number.isdecimal())


def profile_text(answer: Answer, only: str | None = None) -> str:
    """A profile as the chain shows it.

    Args:
        answer: of a profiler.
        only: the list that is shown, an entry a line; else one line a key.
    """
    if only is not None:
        entries = answer["answer"].get(only, [])
        return "\n".join(f"- {one_line(str(entry), 60)}" for entry in entries)
    lines = []
    for name, value in answer["answer"].items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        lines.append(f"{name}: {one_line(text, 60)}")
    return "\n".join(lines)


def _texts(tables: Tables, name: str, scheme: Scheme) -> list[str]:
    """The texts of an item field; a category's names are texts too."""
    known = tables.manifest["fields"]
    if name not in known:
        raise ConfigError(
            f"scheme {scheme.name}: fields: {tables.folder} has no item field {name!r}; "
            f"{nearest(name, known)}"
        )
    if known[name]["kind"] == "text":
        return tables.texts(name)
    entries = tables.vocabulary(name)
    return ["" if row == 0 else entries[row] for row in tables.scalar("items", name).tolist()]


def _hash(request: Request) -> str:
    values = asdict(request)
    values.pop("hash")
    return sha256_of_text(json.dumps(values, sort_keys=True, ensure_ascii=False))

"""Tables of own data from Python: the same as the command ``legos table``.

The one module of ``legos/`` beside ``legos/commands`` that starts ``process``, and only when asked.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legos.errors import ConfigError, DataError

if TYPE_CHECKING:
    import pandas as pd

    Given = str | Path | pd.DataFrame


def build(
    items: Given | Sequence[Given],
    events: Given | Sequence[Given],
    users: Given | Sequence[Given] | None = None,
    *,
    output: str | Path,
    **options: Any,
) -> Path:
    """Make tables and their data YAML; prints what was read and how.

    Args:
        items, events, users: a DataFrame, a file, or several.
        output: folder of the tables.
        options: as ``legos table --help`` says, with ``_`` for ``-``: ``user="customer_id"``,
            ``positive=["purchase"]``, ``event_weight={"view": 1, "cart": 2}``, ``force=True``.

    Returns:
        The folder.

    Raises:
        DataError: what the command says, too.
    """
    from process.table.__main__ import build_from, build_parser
    from process.table.missing import MissingColumns

    given = [
        [] if found is None else _several(found, what)
        for found, what in ((items, "items"), (events, "events"), (users, "users"))
    ]
    if not given[0] or not given[1]:
        raise DataError("items and events: both are needed")
    parser = build_parser()
    words = ["--items", "-", "--events", "-", "--output", str(output)]
    known = {option for action in parser._actions for option in action.option_strings}
    for name, value in options.items():
        words += _words(name, value, known)
    try:
        args = parser.parse_args(words)
    except ConfigError as error:
        raise DataError(str(error)) from None
    try:
        build_from(args, *given)
    except MissingColumns as missing:
        more = ", ".join(f"{role}={name!r}" for role, name in missing.options.items())
        raise DataError(f"{missing}\n  legos.tables.build(..., {more})") from None
    return Path(output)


def _several(given: Any, what: str) -> list[Any]:
    import pandas as pd

    one = isinstance(given, str | Path | Mapping | pd.DataFrame | pd.Series)
    every = [given] if one or not isinstance(given, Iterable) else given
    found = [Path(each) if isinstance(each, str) else each for each in every]
    for each in found:
        if not isinstance(each, Path | pd.DataFrame):
            raise DataError(
                f"{what}: found a {type(each).__name__}, expected a file, a pandas DataFrame "
                "(pd.DataFrame(rows)), or a list of these"
            )
    return found


def _words(name: str, value: Any, known: set[str]) -> list[str]:
    """An option as the command line has it."""
    from legos.errors import nearest

    option = f"--{name.replace('_', '-')}"
    if option == "--quotes" and isinstance(value, bool):
        return [] if value else ["--no-quotes"]
    if option not in known - {"--items", "--events", "--users", "--output", "--help"}:
        names = [each.lstrip("-").replace("-", "_") for each in known if each.startswith("--")]
        raise DataError(f"{name}: no such option; {nearest(name, names)}")
    if value is None or value is False:
        return []
    if value is True:
        return [option]
    if isinstance(value, Mapping):
        return [option, *(f"{key}={each}" for key, each in value.items())]
    if isinstance(value, str) or not isinstance(value, Sequence):
        return [option, str(value)]
    if option == "--tokenizer":
        return [word for each in value for word in (option, str(each))]
    return [option, *map(str, value)]

"""Which YAML a name means: the user's own, that of a folder of tables, or a shipped one.

``--data shop`` is ``config/data/shop.yaml`` of the working directory; or else, beside the tables
that it reads, ``data/shop/data.yaml`` of ``LEGOS_HOME`` or the working directory; or else the
shipped one. ``legos:data/mind.yaml`` is the shipped one in any case.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from legos.config.yaml_files import (
    CONFIG_FOLDER,
    ENDINGS,
    SHIPPED,
    nearest_file,
    shipped_file,
    shown,
    yaml_files,
)
from legos.errors import ConfigError, nearest
from legos.home import homes

TABLES_FILE = "data.yaml"
"""The data YAML in a folder of tables."""
_MANIFEST = "manifest.json"


def own_yamls(kind: str) -> dict[str, Path]:
    """By name the YAMLs of ``config/<kind>/`` in the working directory; of a checkout none."""
    folder = Path("config") / kind
    if not folder.is_dir() or folder.resolve() == (CONFIG_FOLDER / kind).resolve():
        return {}
    return _by_name(folder)


def yamls(kind: str) -> dict[str, Path]:
    """By name every YAML that ``--<kind>`` knows, the user's own first."""
    found = own_yamls(kind)
    if kind == "data":
        for folder in homes("data"):
            for path in sorted(folder.glob(f"*/{TABLES_FILE}")):
                found.setdefault(path.parent.name, path)
    for name, path in _by_name(CONFIG_FOLDER / kind).items():
        found.setdefault(name, path)
    return found


def _by_name(folder: Path) -> dict[str, Path]:
    return {
        path.relative_to(folder).with_suffix("").as_posix(): path for path in yaml_files(folder)
    }


def locate(kind: str, name: str, known: Iterable[str] = ()) -> Path:
    """The file that ``--<kind> <name>`` means.

    Args:
        kind: data, model, exp or embed.
        name: a name, the path of a YAML, or (data) a folder of tables.
        known: names for errors; none: those of the files.

    Raises:
        ConfigError: there is no such file; the message names the nearest.
    """
    bare = name.removesuffix(ENDINGS[0]).removesuffix(ENDINGS[1])
    if name.startswith(SHIPPED):
        path, found = shipped_file(bare + ENDINGS[0]), {}
    else:
        path, found = Path(name), yamls(kind)
        if bare in found and not (name.endswith(ENDINGS) and ("/" in name or path.is_file())):
            return found[bare]
    if path.is_file() and (path.is_absolute() or path.suffix in ENDINGS):
        return path
    if kind == "data" and path.is_dir():
        return _of_tables(path, found)
    if name.startswith(SHIPPED) or name.endswith(ENDINGS):
        raise ConfigError(f"--{kind} {name}: no such file; {_hint(kind, path)}")
    missing = "no such YAML"
    if kind == "data":
        places = [path] if "/" in name else [home / name for home in homes("data")]
        missing += f", nor tables in {' or '.join(shown(place) for place in places)}"
    raise ConfigError(f"--{kind} {name}: {missing}; {nearest(name, list(known) or found)}")


def _hint(kind: str, path: Path) -> str:
    """What to write instead of a path without a file."""
    if path.stem in yamls(kind) and not path.is_relative_to(CONFIG_FOLDER):
        return f"the shipped one needs only its name: --{kind} {path.stem}"
    return nearest_file(path)


def _of_tables(folder: Path, known: Iterable[str]) -> Path:
    """The YAML in a folder of tables."""
    if (folder / TABLES_FILE).is_file():
        return folder / TABLES_FILE
    if (folder / _MANIFEST).is_file():
        raise ConfigError(
            f"--data {shown(folder)}: tables without {TABLES_FILE}; give the data YAML that reads "
            f"them, with `folder: {shown(folder)}` (`legos list data` shows the shipped ones)"
        )
    raise ConfigError(f"--data {shown(folder)}: no tables; {nearest(folder.name, known)}")


def tables_of(path: Path) -> Path | None:
    """The folder of tables around a data YAML; None where it does not lie beside tables."""
    beside = path.name == TABLES_FILE and (path.parent / _MANIFEST).is_file()
    return path.parent if beside else None


def headline(path: Path) -> str:
    """The first comment line of a YAML: what it is."""
    with path.open(encoding="utf-8") as lines:
        first = next(lines, "")
    return first.removeprefix("#").strip() if first.startswith("#") else "(no description)"

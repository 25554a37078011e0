"""Where the YAMLs lie: ``config/<kind>/<name>.yaml``, and what each says of itself."""

from __future__ import annotations

from collections.abc import Iterable
from os.path import normpath
from pathlib import Path

from legos.errors import ConfigError, nearest

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "config"
KINDS = ("data", "model", "exp", "embed")
FAMILIES = ("item", "user", "predictor")
"""Of bricks: the keys of a model section that hold one."""
_ENDINGS = (".yaml", ".yml")


def shown(path: Path) -> str:
    """A path as errors print it: relative to the current folder where it lies below it."""
    absolute, here = Path(normpath(path.absolute())), Path.cwd()
    return absolute.relative_to(here).as_posix() if absolute.is_relative_to(here) else str(path)


def yaml_files(folder: Path) -> list[Path]:
    """All YAMLs below a folder, in the order of their names without ending."""
    found = (path for path in folder.rglob("*") if path.suffix in _ENDINGS)
    return sorted(found, key=lambda path: path.with_suffix(""))


def locate(kind: str, name: str, known: Iterable[str] = ()) -> Path:
    """The file that ``--<kind> <name>`` means: a path, or a bare name of ``config/<kind>/``.

    Args:
        kind: data, model, exp or embed.
        name: as it was given.
        known: names for errors; none: those of the files.

    Raises:
        ConfigError: there is no such file; the message names the nearest.
    """
    if Path(name).is_absolute() and Path(name).is_file():
        return Path(name)
    if not name.endswith(_ENDINGS) or "/" not in name:
        for candidate in (name, *(name + ending for ending in _ENDINGS)):
            path = CONFIG_FOLDER / kind / candidate
            if path.suffix in _ENDINGS and path.is_file():
                return path
        if not name.endswith(_ENDINGS):
            known = list(known) or [path.stem for path in yaml_files(CONFIG_FOLDER / kind)]
            raise ConfigError(f"--{kind} {name}: no such YAML; {nearest(name, known)}")
    path = Path(name)
    if not path.is_file():
        raise ConfigError(f"--{kind} {name}: no such file; {suggest_file(path)}")
    return path


def suggest_file(path: Path) -> str:
    """The nearest YAML beside a file that does not exist."""
    if not path.parent.is_dir():
        return f"there is no folder {shown(path.parent)} either"
    known = [file.name for file in yaml_files(path.parent) if file.parent == path.parent]
    return nearest(path.name, known) if known else f"folder {shown(path.parent)} holds no YAML"


def headline(path: Path) -> str:
    """The first comment line of a YAML: what it is."""
    with path.open(encoding="utf-8") as lines:
        first = next(lines, "")
    return first.removeprefix("#").strip() if first.startswith("#") else "(no description)"

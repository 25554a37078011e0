"""Bricks and systems of the user's own package.

A plug-in is a module that registers them when it is imported, as those of the toolkit do. It is
named by ``--plugin my.module`` or ``exp.plugins``, or its package is installed with an entry point
of group ``legos.plugins``. A run whose model is made with a plug-in remembers its name and the hash
of its code; whatever opens the run brings the plug-in in again.
"""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from legos.code_content import code_content
from legos.errors import CheckpointError, ConfigError, LegosError, add_guest

GROUP = "legos.plugins"
"""The entry points of installed plug-ins."""
PREFIX = "plug-in "
"""What the keys of a run's sources begin with that name its plug-ins."""

_TOOLKIT = "legos"
_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_loaded: list[str] = []
_importing: list[str] = []  # the innermost last
_owners: dict[type, str] = {}  # by settings class of a brick, or section of a system
_guests: set[str] = set()  # packages that have registered something
_searched = False


def register(settings: type) -> str | None:
    """Note that the plug-in under way, if any, registers a brick or a system; returns its name."""
    package = _package(settings.__module__)
    if package == _TOOLKIT:  # a plug-in may be the first to import it
        return None
    _guests.add(package)
    name = _importing[-1] if _importing else None
    if name is not None:
        _owners[settings] = name
    return name


def owner(settings: type) -> str | None:
    """The plug-in that registered a settings class; None: the toolkit, or the program itself."""
    if settings in _owners:
        return _owners[settings]
    module = settings.__module__  # imported before it was named as a plug-in
    return next((name for name in _loaded if f"{module}.".startswith(f"{name}.")), None)


def content(name: str) -> str:
    """The hash of the code of a plug-in: its module and what that imports of the same package."""
    return code_content([name], package=_package(name))


def _package(module: str) -> str:
    """The package that a module lies in."""
    return module.split(".")[0]


def load_plugin(name: str, *, package: str = "") -> None:
    """Import a plug-in, from the working directory or from where packages are installed.

    Args:
        name: of the module.
        package: whose entry point names it.

    Raises:
        ConfigError: there is no such module, its import fails, or it registers nothing; the message
            names it.
    """
    if name in _loaded:
        return
    origin = f" (entry point of the installed package {package})" if package else ""
    if not _NAME.fullmatch(name):
        raise ConfigError(f"plug-in {name!r}{origin}: expected a module, such as my_bricks.items")
    if str(Path.cwd()) not in sys.path and "" not in sys.path:
        sys.path.append(str(Path.cwd()))
    _importing.append(name)
    try:
        import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(f"plug-in {name}{origin}: {_reason(name, error)}") from error
    finally:
        _importing.pop()
    if _package(name) not in _guests and name not in _owners.values():
        raise ConfigError(
            f"plug-in {name}{origin}: registers no brick and no system; expected a module whose "
            "import does, see docs/add-a-lego.md"
        )
    file = getattr(sys.modules[_package(name)], "__file__", None) or sys.modules[name].__file__
    if file is not None:
        add_guest(f"plug-in {name}", Path(file))
    _loaded.append(name)


def load_installed() -> None:
    """Import every plug-in that an installed package has an entry point for, once a process.

    Raises:
        ConfigError: the import of one fails.
    """
    global _searched
    if _searched:
        return
    _searched = True
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        load_plugin(point.module, package=point.dist.name if point.dist else point.name)


def load_remembered(sources: Mapping[str, str], run: Path) -> None:
    """Bring in the plug-ins that a run was trained with.

    Args:
        sources: by key the content that the run read.
        run: its folder, for errors.

    Raises:
        CheckpointError: one is not here, fails, or has other code than in the training.
    """
    for key, trained_with in sources.items():
        if not key.startswith(PREFIX):
            continue
        try:
            load_plugin(key.removeprefix(PREFIX))
        except ConfigError as error:
            raise CheckpointError(f"{run} was trained with {error}") from error
        refuse_changed(key, trained_with, content(key.removeprefix(PREFIX)), run)


def refuse_changed(key: str, trained_with: str, now: str, run: Path) -> None:
    """Raise CheckpointError where a plug-in has other code than a run was trained with."""
    if trained_with != now:
        raise CheckpointError(
            f"{run} was trained with {key}, whose code has changed since: its hash was "
            f"{trained_with[:12]} and is {now[:12]}; bring back the code of the training, or train "
            "again"
        )


def _reason(name: str, error: BaseException) -> str:
    """Why the import of a plug-in failed, and where."""
    missing = getattr(error, "name", None) if isinstance(error, ModuleNotFoundError) else None
    if missing is not None and f"{name}.".startswith(f"{missing}."):
        return (
            f"no module {missing}, neither in the working directory nor among the installed "
            "packages; start from the folder that holds it, or install its package"
        )
    if isinstance(error, LegosError):
        return str(error)
    frames = traceback.extract_tb(error.__traceback__)
    toolkit = str(Path(__file__).parent)
    ours = [each for each in frames if each.filename.startswith(("<frozen importlib", toolkit))]
    last = [each for each in frames if each not in ours or each is frames[0]][-1]
    place = f"{last.filename}:{last.lineno}"
    if isinstance(error, SyntaxError):
        place = f"{error.filename}:{error.lineno}"
    told = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return f"its import fails: {told} ({place})"

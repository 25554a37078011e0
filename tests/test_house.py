"""The house: which room may use which, and that no two modules wait for each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the cellar upwards; a room uses rooms below it, and those beside it in one direction alone.
FLOORS = (
    {"data", "metrics"},
    {"blocks"},
    {"lm"},
    {"item", "user", "predictor", "baselines"},
    {"recommender"},
    {"config"},
    {"runs"},
    {"workplace"},
    {"training"},
    {"evaluation"},
    {"reports"},
    {"systems"},
    {"modes"},
    {"recommend"},
    {"server"},
    {"commands"},
)
DOORS = {"legos", "legos.__main__", "legos.tables"}
"""What users import or start: above all rooms, and what they need is imported when it is used."""
HEIGHT = {room: height for height, rooms in enumerate(FLOORS, start=1) for room in rooms}


def modules() -> dict[str, Path]:
    """By dotted name every module of the toolkit."""
    found = {}
    for path in sorted((ROOT / "legos").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(path: Path, known: dict[str, Path]) -> Iterator[str]:
    """Every module of the toolkit that a file imports, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                yield whole if whole in known else node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


MODULES = modules()


@pytest.fixture(scope="module")
def arrows() -> dict[str, set[str]]:
    """By module those that it imports."""
    return {
        name: {each for each in imports(path, MODULES) if each != name}
        for name, path in MODULES.items()
    }


def height(module: str) -> int:
    """The floor of a module; modules directly under ``legos`` are the ground, doors the roof."""
    if module in DOORS:
        return len(FLOORS) + 1
    room = [*module.split("."), ""][1]
    return HEIGHT.get(room, 0)


def test_every_folder_has_a_floor() -> None:
    folders = {path.parent.name for path in (ROOT / "legos").glob("*/__init__.py")}
    assert folders == set(HEIGHT)


def test_arrows_go_down(arrows: dict[str, set[str]]) -> None:
    up = [
        f"{name} -> {other}"
        for name, others in arrows.items()
        for other in others
        if other in MODULES and other not in DOORS and height(other) > height(name)
    ]
    assert up == []


def test_the_toolkit_knows_nothing_of_its_users(arrows: dict[str, set[str]]) -> None:
    outside = {"process", "worker", "benchmarks", "tests"}
    assert [
        f"{name} -> {other}"
        for name, others in arrows.items()
        for other in others
        if other.split(".")[0] in outside - ({"process"} if starts_process(name) else set())
    ] == []


def starts_process(module: str) -> bool:
    """Whether a module may start what makes tables: the command line, and the door for Python."""
    return module == "legos.tables" or module.startswith("legos.commands.")


def test_process_is_imported_when_it_is_asked_for() -> None:
    at_once = [
        name
        for name in filter(starts_process, MODULES)
        for node in ast.parse(MODULES[name].read_text(encoding="utf-8")).body
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "process"
    ]
    assert at_once == []


def test_no_modules_import_each_other_in_a_circle(arrows: dict[str, set[str]]) -> None:
    graph = {name: others & MODULES.keys() for name, others in arrows.items() if name not in DOORS}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_no_folders_import_each_other_in_a_circle(arrows: dict[str, set[str]]) -> None:
    graph: dict[str, set[str]] = {}
    for name, others in arrows.items():
        own = name.split(".")[1:2]
        rooms = {room for other in others & MODULES.keys() for room in other.split(".")[1:2]}
        if own and own[0] in HEIGHT:
            graph.setdefault(own[0], set()).update((rooms & HEIGHT.keys()) - set(own))
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_a_system_uses_no_other_system(arrows: dict[str, set[str]]) -> None:
    folders = {path.name for path in (ROOT / "legos" / "systems").iterdir() if path.is_dir()}
    crossing = [
        f"{name} -> {other}"
        for name, others in arrows.items()
        for other in others
        if name.startswith("legos.systems.")
        and other.startswith("legos.systems.")
        and name.split(".")[2] in folders
        and other.split(".")[2] in folders - {name.split(".")[2]}
    ]
    assert crossing == []

"""From a model's section to ``exp.train``, where every system reads how it is trained.

The later counts: what the system says, the experiment, the model's own ``train``, the command line.
Sections from before there was one ``train`` have other keys (``SystemModel.former``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from legos.config.document import Document, KeyPath, leaves, merge, value_at
from legos.config.model_schema import SystemModel, registered_system, renamed, systems
from legos.config.overrides import COMMAND_LINE, apply_dotted
from legos.config.yaml_files import is_shipped

_TRAIN: KeyPath = ("exp", "train")
_COMPARED: KeyPath = ("exp", "compare", "models")


def settle_training(run: Document, given: Mapping[KeyPath, Any] | None = None) -> list[str]:
    """Put what models say of their training into ``exp.train``, and that of compared rows there.

    Args:
        run: all sections; changed in place.
        given: ``exp.train`` of the command line, by key path.

    Returns:
        Notices about keys of the user's own experiment that a model overrides.
    """
    rows = value_at(run.data, _COMPARED)
    places = [(*_COMPARED, str(number)) for number in range(len(rows or ()))]
    notices: list[str] = []
    for place in places:
        if isinstance(value_at(run.data, place), dict):
            notices += _settle(run, place, (*place, "train"), given or {})
    if isinstance(run.data.get("model"), dict) and isinstance(run.data.get("exp"), dict):
        notices += _settle(run, ("model",), None if places else _TRAIN, given or {})
    return list(dict.fromkeys(notices))


def _settle(
    run: Document, model: KeyPath, train: KeyPath | None, given: Mapping[KeyPath, Any]
) -> list[str]:
    """Of one model; its training goes to the key path ``train``, None: nowhere."""
    section, said = run.part(model), value_at(run.data, _TRAIN)
    name = section.data.get("system", "bricks")
    own = section.data.get("train") or {}
    if name not in systems() or not isinstance(own, dict) or not isinstance(said, dict | None):
        return []  # the schema says what is wrong
    kind = registered_system(name).section
    trained = Document(dict(kind.training))
    experiment = Document({}) if said is None else run.part(_TRAIN)
    over = section.part(("train",)) if own else Document({})
    moved = _former(section, kind)
    if moved.data and not own:  # such a section said all of its training
        for key in kind.training:
            experiment.data.pop(key, None)
    merge(over, moved)
    section.data.pop("train", None)
    run.put(model, section)
    if train is None or not (over.data or trained.data):
        return []
    merge(trained, experiment)
    merge(trained, over)
    run.put(train, trained)
    apply_dotted(run, {(*train, *path[2:]): value for path, value in given.items()})
    return list(_overridden(experiment, over, str(section.data.get("name", name))))


def _former(section: Document, kind: type[SystemModel]) -> Document:
    """Rename keys from before in a model's section; returns those that are of ``exp.train`` now."""
    moved = Document({})
    for path, value in list(leaves(section.data)):
        key = ".".join(("model", *path))
        new = tuple(renamed(key, kind.former).split("."))
        if ".".join(new) == key:
            continue
        parents = [value_at(section.data, path[:depth]) for depth in range(len(path))]
        for parent, name in reversed(list(zip(parents, path, strict=True))):
            if name in parent and (name == path[-1] or not parent[name]):
                del parent[name]
        target, below = (section, new[1:]) if new[0] == "model" else (moved, new[2:])
        place = section.place(path)
        apply_dotted(target, {below: value})
        target.places[below] = place
    return moved


def _overridden(experiment: Document, over: Document, model: str) -> Iterator[str]:
    """Keys that the user's own experiment says and the model, in another file, says otherwise."""
    for path, value in leaves(over.data) if over.data else ():
        file = experiment.place(path).rpartition(":")[0]
        if value_at(experiment.data, path) in (None, value) or file in ("", COMMAND_LINE):
            continue
        shipped = is_shipped(file)
        if not shipped and over.place(path).rpartition(":")[0] != file:
            key = ".".join((*_TRAIN, *path))
            yield f"{file}: {key}: no effect, model {model} sets it"

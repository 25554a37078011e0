"""The sections of a run by name: a YAML, a row of ``config/models.yaml``, or a saved file.

In a model section ``item: cnn`` stands for all settings of that brick in ``config/bricks.yaml``,
``{like: cnn, dropout: 0}`` for them with others over them, and ``like: nrms`` for another model.
They are written out here, before anything else reads the section.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from legos.config.document import Document, KeyPath, merge, value_at
from legos.config.locations import headline, locate, own_yamls, tables_of, yamls
from legos.config.yaml_files import (
    CONFIG_FOLDER,
    FAMILIES,
    KINDS,
    SHIPPED,
    MissingFile,
    read_document,
    shown,
    yaml_files,
)
from legos.errors import ConfigError, nearest
from legos.home import home

if TYPE_CHECKING:
    from legos.registry import Registry

OWN = "own"
"""The group of models that have a YAML in ``config/model/`` and no row."""
_FOLDER = CONFIG_FOLDER / "model"
_LIKE = "like"
_OF_THE_TABLE = ("about", "paper", "published", "run")  # keys that are none of a model section


@dataclass(frozen=True)
class Model:
    """A model that ``--model`` knows by name.

    Attributes:
        name: of the model.
        group: its heading in the table.
        section: what its row says of it, not written out.
        file: its YAML, which takes the place of ``section``; None: it has none.
        about: what it is; "": its file says so.
        paper: who published it; "" where nobody did.
        run: the rest of a command that trains it.
    """

    name: str
    group: str
    section: Document
    file: Path | None
    about: str = ""
    paper: str = ""
    run: str = ""

    @property
    def description(self) -> str:
        """What it is."""
        return self.about or (headline(self.file) if self.file else "")

    @property
    def bricks(self) -> dict[str, str]:
        """By family the name of its brick; of a system none."""
        said = self.section.data
        if self.group == OWN and self.file is not None:
            said = read_document(self.file).data
        found = models()[said[_LIKE]].bricks if _LIKE in said else {}
        for family in FAMILIES:
            brick = said.get(family, {})
            name = brick if isinstance(brick, str) else brick.get(_LIKE, brick.get("name"))
            found |= {family: name} if name else {}
        return found


def models() -> Mapping[str, Model]:
    """The user's own models, every model of the table, then those that have a YAML alone.

    Raises:
        ConfigError: a row cannot be read, or a name occurs twice.
    """
    own = own_yamls("model")
    found = {name: _of_file(name, path) for name, path in own.items()}
    return found | {name: model for name, model in shipped_models().items() if name not in own}


@lru_cache(maxsize=1)
def shipped_models() -> Mapping[str, Model]:
    """Every model of the table, then those that have a YAML in its folder alone.

    Raises:
        ConfigError: a row cannot be read, or a name occurs twice.
    """
    table = read_document(CONFIG_FOLDER / "models.yaml")
    files = {path.stem: path for path in yaml_files(_FOLDER)}
    found: dict[str, Model] = {}
    for group in table.data:
        for name, row in _rows(table.part((group,))):
            if name in found:
                raise ConfigError(f"{row.places[()]}: model {name} is given twice")
            told = {key: row.data.pop(key, "") for key in _OF_THE_TABLE}
            about, file = told["about"], files.pop(name, None)
            if file is None and not (about and (_LIKE in row.data or "item" in row.data)):
                where = f"{row.places[()]}: {group}.{name}"
                raise ConfigError(f"{where}: needs about, and bricks or like")
            found[name] = Model(name, group, row, file, about, told["paper"], told["run"])
    return found | {name: _of_file(name, file) for name, file in files.items()}


def _of_file(name: str, file: Path) -> Model:
    return Model(name, OWN, Document({}), file)


def _rows(group: Document) -> Iterator[tuple[str, Document]]:
    """Name and content of each row of a group, those of its cross included."""
    run = {"run": group.data.get("run", "")}
    for name in group.data:
        if name == "cross":
            yield from _crossed(group.part((name,)))
        elif name != "run":
            row = group.part((name,))
            yield name, Document(run | row.data, row.places)


def _crossed(cross: Document) -> Iterator[tuple[str, Document]]:
    """A row for every word of ``first`` with every word of ``second``."""
    said = cross.data
    for one, two in product(said["first"], said["second"]):
        row = cross.part(("first", one))
        about = f"{row.data['about']}, {said['second'][two]['about']}"
        place = row.places[()]
        merge(row, cross.part(("second", two)))
        row.data["about"], row.places[()] = about, place
        yield f"{one}{said['joined_by']}{two}", row


def read_model(name: str) -> Document:
    """The section of a model by its name, or by the path of a YAML, as it stands there.

    A path ``config/model/NAME.yaml`` without a file is the row of that name; ``legos:model/NAME``
    is the shipped model, also where the user has one of that name.

    Raises:
        ConfigError: there is no such model, or its YAML cannot be read.
    """
    path, is_shipped = Path(name), name.startswith(SHIPPED)
    known = shipped_models() if is_shipped else models()
    model = known.get(name) or known.get(path.stem)
    here = is_shipped or path.parent.resolve() == _FOLDER
    here = here or ("/" not in name and not (path.suffix and path.is_file()))
    baselines = _registry("baseline").names() if model is None else ()
    if name in baselines:
        fitted = [each for each in baselines if each in known]
        raise ConfigError(
            f"--model {name}: a baseline that is no model, because it learns nothing; measure it "
            f"beside a model with --exp.baselines '[{name}]'; baselines that are models: "
            f"{', '.join(fitted)}"
        )
    if model is None or model.file is not None or not here:
        return _read_file(locate("model", name, known))
    own = Document({"name": model.name, "hidden_size": "${hidden_size}"}, {})
    merge(own, model.section.part(()))
    return own


def _read_file(path: Path) -> Document:
    """A model YAML; imports of models that have no file are told what to write instead."""
    try:
        return read_document(path)
    except MissingFile as error:
        name = error.path.stem
        if error.path.parent.resolve() != _FOLDER or name not in models():
            raise
        raise ConfigError(
            f"{error.place}: {shown(error.path)} is no file: model {name} is a row of "
            f"config/models.yaml; write `like: {name}` in place of the import"
        ) from None


def names_of(kind: str) -> list[str]:
    """Every name that ``--<kind>`` knows."""
    return list(models() if kind == "model" else yamls(kind))


def read_section(kind: str, name: str) -> Document:
    """The section that ``--<kind> <name>`` means; models with their bricks written out.

    Args:
        kind: data, model, exp or embed.
        name: a name, or the path of a YAML: of such a section, or of a whole configuration; for
            data also a folder of tables.

    Raises:
        ConfigError: there is nothing of that name, or it cannot be read.
    """
    if kind == "model":
        section = read_model(name)
    else:
        path = locate(kind, name)
        section, tables = read_document(path), tables_of(path)
        if kind == "data" and tables is not None:
            # where they are now; beside another LEGOS_HOME a relative one would be read there
            section.data["folder"] = str(tables if home() == Path() else tables.absolute())
    if kind in _whole(section):
        section = section.part((kind,))
    if kind == "model":
        write_out(section)
    return section


def kinds_of(path: Path) -> Sequence[str]:
    """Which sections a file of a whole configuration (``--save``) has.

    Raises:
        ConfigError: it is none.
    """
    document = read_document(path)
    found = _whole(document)
    if not found:
        raise ConfigError(
            f"--config {shown(path)}: expected sections {', '.join(KINDS)}, as --save writes them, "
            f"found {', '.join(document.data)}"
        )
    return found


def _whole(document: Document) -> Sequence[str]:
    """The sections of a document that is a whole configuration; none of another."""
    said = document.data
    whole = all(key in KINDS and isinstance(value, dict) for key, value in said.items())
    return list(said) if whole else []


def write_out(section: Document) -> None:
    """Put models and bricks where a section names them, in place.

    Raises:
        ConfigError: there is no such model or brick; the message names the nearest.
    """
    if _LIKE in section.data:
        name = section.data.pop(_LIKE)
        if not isinstance(name, str) or name not in models():
            where = f"{section.place((_LIKE,))}: model.{_LIKE}"
            raise ConfigError(f"{where}: no model {name!r}; {nearest(str(name), models())}")
        file = models()[name].file
        itself = file is not None and section.place((_LIKE,)).rpartition(":")[0] == shown(file)
        whole = read_model(f"{SHIPPED}model/{name}" if itself else name)
        write_out(whole)
        put_over(whole, section)
        section.data.clear()
        merge(section, whole)
    for family in FAMILIES:
        brick = section.data.get(family)
        own = Document({}, {})
        if isinstance(brick, dict) and _LIKE in brick:
            own = section.part((family,))
            brick = own.data.pop(_LIKE)
        elif not isinstance(brick, str):
            continue
        try:
            settings = _brick_settings(family, brick)
        except ConfigError as error:
            raise ConfigError(f"{section.place((family,))}: model.{family}: {error}") from None
        merge(settings, own)
        settings.places.setdefault((), section.place((family,)))
        section.put((family,), settings)


def put_over(below: Document, section: Document) -> None:
    """Put a model section over another; a brick that it names takes the place of the other one."""
    for family in FAMILIES:
        brick = section.data.get(family)
        if isinstance(brick, str) or (isinstance(brick, dict) and _LIKE in brick):
            below.data.pop(family, None)
    merge(below, section)


def use_bricks(run: Document, prefix: KeyPath, names: Mapping[str, str], place: str) -> None:
    """Put bricks in place of those of the model at a key path, and write it out.

    Args:
        run: all sections.
        prefix: key path of the model.
        names: of bricks by family.
        place: where they are named.

    Raises:
        ConfigError: there is no such brick; the message names the nearest.
    """
    section = run.part(prefix)
    put_over(section, Document(dict(names), {(family,): place for family in names}))
    write_out(section)
    run.put(prefix, section)


def _registry(family: str) -> Registry:
    """The bricks of a family."""
    from legos.registry import bricks  # imports pydantic, and the bricks torch: not for --help

    return bricks(family)


def _brick_settings(family: str, name: Any) -> Document:
    """The settings of a brick by its name in ``config/bricks.yaml``, or else its defaults."""
    table = read_document(CONFIG_FOLDER / "bricks.yaml")
    if name in table.data[family]:
        return table.part((family, name))

    registry = _registry(family)
    if name not in registry.names():
        known = {*table.data[family], *registry.names()}
        raise ConfigError(f"unknown {registry.family} {name!r}; {nearest(str(name), known)}")
    return Document({"name": name}, {})


def name_language_models(resolved: Document) -> None:
    """Replace names of ``config/llm.yaml`` by what they stand for, wherever a model is named.

    Raises:
        ConfigError: neither a name nor anything that could be a model.
    """
    known = read_document(CONFIG_FOLDER / "llm.yaml").data
    exp = resolved.data["exp"]
    _name_language_model(exp.get("vectors"), "model", known)
    _name_language_model(exp.get("evaluate"), "text_model", known)
    embeds, compared = (value_at(exp, ("compare", key)) for key in ("embeds", "models"))
    for embed in [resolved.data.get("embed"), *_listed(embeds)]:
        if isinstance(embed, dict) and embed.get("source") == "language_model":
            _name_language_model(embed, "path", known)
    for model in [resolved.data.get("model"), *_listed(compared)]:
        if isinstance(model, dict):
            if "system" in model:
                _name_language_model(model, "model", known)
            for brick in _bricks_within(model.get("item")):
                _name_language_model(brick, "model", known)


def _name_language_model(section: Any, key: str, known: dict[str, Any]) -> None:
    name = section.get(key) if isinstance(section, dict) else None
    if not isinstance(name, str | int):
        return
    name = str(name)
    if name in known:
        section[key] = {"name": name, **known[name]}
    elif (
        "/" not in name and not name.endswith((".gguf", ".safetensors")) and not Path(name).exists()
    ):
        raise ConfigError(
            f"language model {name!r}: neither a name of config/llm.yaml nor a folder, a .gguf "
            f"file or a name of the Hugging Face hub (owner/name); {nearest(name, known)}"
        )


def _bricks_within(brick: Any) -> Iterator[dict[str, Any]]:
    """A brick's mapping and those of the bricks inside it."""
    if isinstance(brick, dict):
        yield brick
        for key, value in brick.items():
            if key != "model":
                yield from _bricks_within(value)


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

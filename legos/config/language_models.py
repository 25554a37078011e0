"""Names of ``config/llm.yaml`` in a run's sections become what they stand for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from legos.config.locations import CONFIG_FOLDER
from legos.config.yaml_files import Document, read_document
from legos.errors import ConfigError, nearest


def name_language_models(resolved: Document) -> None:
    """Replace names of ``config/llm.yaml`` by what they stand for, wherever a model is named.

    Raises:
        ConfigError: neither a name nor anything that could be a model.
    """
    known = read_document(CONFIG_FOLDER / "llm.yaml").data
    for part, key in (("vectors", "model"), ("evaluate", "text_model")):
        section = resolved.data["exp"].get(part)
        if isinstance(section, dict) and key in section:
            _name_language_model(section, key, known)
    compare = resolved.data["exp"].get("compare")
    compared = compare if isinstance(compare, dict) else {}
    for embed in [resolved.data.get("embed"), *_mappings(compared.get("embeds"))]:
        if isinstance(embed, dict) and embed.get("source") == "language_model":
            _name_language_model(embed, "path", known)
    for model in [resolved.data.get("model"), *_mappings(compared.get("models"))]:
        if not isinstance(model, dict):
            continue
        if "system" in model and "model" in model:
            _name_language_model(model, "model", known)
        for brick in _bricks_within(model.get("item")):
            if "model" in brick:
                _name_language_model(brick, "model", known)


def _name_language_model(section: dict[str, Any], key: str, known: dict[str, Any]) -> None:
    name = section[key]
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


def _mappings(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []

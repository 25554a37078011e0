"""What a language model reads of items: the opening and fields of the data YAML, in words."""

from __future__ import annotations

import numpy as np

from legos.config.data_schema import DataConfig
from legos.data.new_items import NewItems
from legos.data.numbers import written
from legos.data.tables import Tables
from legos.data.tokenizers import UNKNOWN
from legos.errors import ConfigError
from legos.item.language_model import LanguageModelSettings
from legos.lm.load import LanguageModel
from legos.lm.sentence import shipped_files
from legos.lm.tokenizer import ItemTemplate, TemplateField


def template_for(
    settings: LanguageModelSettings,
    model: LanguageModel,
    data: DataConfig,
    tables: Tables,
    items: NewItems | None = None,
) -> ItemTemplate:
    """What a brick's language model reads of all items, or of new ones.

    Raises:
        ConfigError: see :func:`template`; or the model is shipped with no prompt of this name.
    """
    read = template(data, tables, prompts=settings.prompts, items=items)
    if settings.prompt_name is None:
        return read
    prompt = shipped_files(model).prompt("plain", settings.prompt_name)
    return ItemTemplate(prompt + read.opening, read.fields)


def template(
    data: DataConfig, tables: Tables, *, prompts: bool, items: NewItems | None = None
) -> ItemTemplate:
    """The opening and the item fields of the data YAML in words, of all items or of new ones.

    Raises:
        ConfigError: there is no field, or one has no words.
    """
    refuse_no_fields(data)
    described = tables.manifest["fields"]
    fields = []
    for field in data.fields:
        column = field.column.split("@")[0]
        if column not in described:
            raise ConfigError(f"data.fields: {field.column!r} has no text for a language model")
        if items is not None and described[column]["kind"] == "number":
            nothing = np.full(len(items), np.nan)
            texts = written(items.numbers.get(column, nothing))
        elif items is not None:
            unknown = UNKNOWN if described[column]["kind"] == "category" else ""
            texts = [text or unknown for text in items.texts[column]]
        elif described[column]["kind"] != "category":
            texts = tables.texts(column)
        else:
            names = tables.vocabulary(tables.column("items", column)["vocabulary"])
            texts = [names[value] for value in tables.scalar("items", column).tolist()]
        prompt = f"{field.name}:" if field.prompt is None else field.prompt
        fields.append(TemplateField(field.name, texts, prompt if prompts else "", field.length))
    return ItemTemplate(data.prompt if prompts else "", fields)


def refuse_no_fields(data: DataConfig) -> None:
    """Raise ConfigError where items have nothing that a language model could read."""
    if not data.fields:
        raise ConfigError(
            f"data.fields: {data.name} has no item field for a language model; choose a model that "
            "reads ids"
        )

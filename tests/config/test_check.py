"""A configuration against the manifest of its tables."""

from __future__ import annotations

from typing import Any

import pytest

from legos.config.check import check_tables
from legos.config.load import load_run_config
from legos.errors import ConfigError

RUN = ["--data", "newsroom", "--model", "naml", "--exp", "train"]


def manifest() -> dict[str, Any]:
    text = {"kind": "list", "dtype": "int32", "vocabulary": "bert"}
    columns = {
        "item_id": {"kind": "scalar", "dtype": "int32", "vocabulary": "item_id"},
        "title@bert": text,
        "abstract@bert": text,
        "category": {"kind": "scalar", "dtype": "int32", "vocabulary": "category"},
        "subcategory": {"kind": "scalar", "dtype": "int32", "vocabulary": "subcategory"},
    }
    names = ("users", "histories", "train", "valid", "test")
    tables = {name: {"rows": 1, "columns": {}} for name in names}
    return {"tables": {"items": {"rows": 1, "columns": columns}, **tables}}


def test_a_fitting_configuration_passes() -> None:
    config = load_run_config([*RUN, "--embed", "minilm-token"])
    before = config.model_dump()
    check_tables(config, manifest())
    assert config.model_dump() == before


def test_all_that_the_tables_do_not_have_is_told_at_once() -> None:
    config = load_run_config(
        [
            *RUN,
            *("--embed", "minilm-token", "--embed.vocabulary", "brt"),
            *("--data.fields.1.column", "categry"),
            *("--data.splits.test", "[test, tset]"),
            *("--data.splits.train", "histories"),
        ]
    )
    with pytest.raises(ConfigError) as caught:
        check_tables(config, manifest())
    text = str(caught.value)
    assert "data.fields.1.column: items have no column 'categry'; did you mean 'category'" in text
    assert "data.splits.test.1: there is no split 'tset'; did you mean 'test'" in text
    assert "data.splits.train: there is no split 'histories'" in text
    assert "embed.vocabulary: no field is tokenized by 'brt'" in text
    assert "did you mean 'bert'" in text


def test_a_vocabulary_that_no_field_reads_is_refused() -> None:
    words = ["--embed", "minilm-token", "--data.fields", "[category]"]
    with pytest.raises(ConfigError, match=r"embed\.vocabulary: no field is tokenized by 'bert'"):
        check_tables(load_run_config([*RUN, *words]), manifest())

"""A configuration against the manifest of its tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from legos.config.load import load_run_config
from legos.config.refusals import check_tables
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
    assert "data.splits.test.1: no split 'tset'; did you mean 'test'" in text
    assert "data.splits.train: no split 'histories'" in text
    assert "embed.vocabulary: no field of newsroom is tokenized by 'brt'" in text
    assert "did you mean 'bert'" in text


def test_a_vocabulary_that_no_field_reads_is_refused() -> None:
    words = ["--embed", "minilm-token", "--data.fields", "[category]"]
    with pytest.raises(ConfigError, match=r"embed\.vocabulary: no field of newsroom is"):
        check_tables(load_run_config([*RUN, *words]), manifest())


def test_the_data_of_every_row_of_a_comparison_is_held_against_the_tables(tmp_path: Path) -> None:
    ids = tmp_path / "ids.yaml"
    ids.write_text(
        "name: ids\nfolder: data/newsroom\nfields: [categry]\nuser_fields: [region]\n"
        "history_length: 5\n"
    )
    entries = f"[naml, {{model: naml, name: ids, data: {ids}}}]"
    words = ["--data", "newsroom", "--exp", "compare", "--embed", "minilm-token"]
    with pytest.raises(ConfigError) as caught:
        check_tables(load_run_config([*words, "--exp.compare.models", entries]), manifest())
    head, *problems = str(caught.value).splitlines()
    assert head == "data/newsroom does not match:"
    assert [problem.split(": ")[0].strip() for problem in problems] == [
        "exp.compare.models.1.data.fields.0.column",
        "exp.compare.models.1.data.user_fields.0.column",
        "embed.vocabulary",
    ]
    assert "did you mean 'category'" in problems[0]
    assert "no field of ids is tokenized by 'bert' (minilm-token)" in problems[2]

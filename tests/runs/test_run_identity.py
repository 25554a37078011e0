"""What names a run and a measurement: every content and setting that decides it, nothing else."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from pydantic import BaseModel

from legos.config import exp_schema, schema
from legos.config.model_schema import registered_system, systems
from legos.config.yaml_files import FAMILIES
from legos.data.tables import Tables
from legos.errors import ConfigError
from legos.lm.locate import language_model_content
from legos.lm.settings import LanguageModelSource
from legos.registry import bricks, item_encoders
from legos.runs.identity import measurement_identity, run_identity, tables_content
from legos.settings import Mark, deciding, settings
from legos.systems.cllm4rec.settings import Cllm4RecConfig
from legos.systems.recsysllm.settings import MaskingSettings, PositionSettings, RecsysllmConfig
from tests.modes.tiny_config import NAML, tiny_config
from tests.tiny import tiny_tables


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tables(tmp_path_factory.mktemp("tiny") / "tables")


def ids(tables: Path, **more: Any) -> tuple[str, str]:
    """Of a run and of its measurement; keys of ``embed`` go into its embed YAML."""
    embed = more.pop("embed", {})
    config = tiny_config(tables, Path("runs"), **more)
    config = config.model_copy(update={"embed": config.embed.model_copy(update=embed)})
    run = run_identity(config, Tables.load(config.data.folder))
    return run.id, measurement_identity(config).id


OTHER_RUN: list[dict[str, Any]] = [
    {"train": {"seed": 2}},
    {"train": {"lr": 0.1}},
    {"train": {"metric": "MRR"}},
    {"model": {**NAML, "hidden_size": 16}},
    {"data": {"history_length": 5}},
    {"data": {"splits": {"valid": "test", "test": ["valid"]}}},
]
OTHER_BOTH: list[dict[str, Any]] = [
    {"data": {"group_by": "user"}},
    {"evaluate": {"ranking": "all", "metrics": ["MRR"]}, "train": {"metric": "MRR"}},
    {"precision": "bf16"},
]
OTHER_MEASUREMENT: list[dict[str, Any]] = [
    {"evaluate": {"metrics": ["MRR"]}},
    {"evaluate": {"cold_warm": False}},
    {"evaluate": {"cold_user_clicks": 2}},
    {"evaluate": {"beyond_accuracy_k": None}},
]
NEITHER: list[dict[str, Any]] = [
    {"data": {"name": "other"}},
    {"data": {"splits": {"test": ["train2"]}}},
    {"model": {**NAML, "name": "other"}},
    {"name": "other"},
    {"mode": "train"},
    {"device": "auto"},
    {"report": True},
    {"baselines": ["random"]},
    {"evaluate": {"page_size": 3}},
    {"evaluate": {"fast_eval": False}},
    {"train": {"checkpoint_minutes": 1.0, "checkpoint_steps": 5}},
    {"embed": {"name": "other"}},
]


@pytest.mark.parametrize(
    ("change", "run", "measurement"),
    [
        *((change, True, False) for change in OTHER_RUN),
        *((change, True, True) for change in OTHER_BOTH),
        *((change, False, True) for change in OTHER_MEASUREMENT),
        *((change, False, False) for change in NEITHER),
    ],
    ids=str,
)
def test_a_setting_names_what_it_decides(
    tables: Path, change: dict[str, Any], run: bool, measurement: bool
) -> None:
    before, after = ids(tables), ids(tables, **change)
    assert [a != b for a, b in zip(before, after, strict=True)] == [run, measurement]


def test_tables_count_by_their_content_wherever_they_lie(tables: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tables, tmp_path / "moved"))
    assert ids(moved) == ids(tables)
    assert tables_content(Tables.load(moved)) == Tables.load(tables).fingerprint
    labels = moved / "columns" / "test" / "labels.values.npy"
    values = np.load(labels)
    np.save(labels, 1 - values)  # as long as before
    assert ids(moved)[0] != ids(tables)[0]


def vectors(path: Path, number: float) -> Path:
    np.save(path, np.full((60, 4), number, np.float32))
    return path


@pytest.mark.parametrize(
    ("key", "brick"),
    [
        ("item_vectors", {"item": {"name": "fixed_vectors"}}),
        ("user_vectors", {"user": {"name": "user_vectors"}}),
        ("item_codes", {"item": {"name": "semantic_codes"}}),
    ],
)
def test_a_file_that_a_model_reads_counts_by_its_content_wherever_it_lies(
    tables: Path, tmp_path: Path, key: str, brick: dict[str, Any]
) -> None:
    model = {**NAML, **brick}
    one = ids(tables, model=model, embed={key: vectors(tmp_path / "a.npy", 1)})
    assert ids(tables, model=model, embed={key: vectors(tmp_path / "b.npy", 1)}) == one
    assert ids(tables, model=model, embed={key: vectors(tmp_path / "a.npy", 2)}) != one
    assert ids(tables, model=model)[0] != one[0]
    assert ids(tables, embed={key: vectors(tmp_path / "a.npy", 2)}) == ids(tables)  # unread


def test_other_numbers_in_a_glove_file_are_another_run(tables: Path, tmp_path: Path) -> None:
    path = tmp_path / "glove.txt"
    found = []
    for number in ("1.0", "2.0"):
        path.write_text(f"sports1 {number} 0.5\n")
        found.append(ids(tables, embed={"source": "text_file", "path": str(path)})[0])
    assert found[0] != found[1]


def test_a_missing_file_is_told_with_its_key(tables: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"embed\.item_vectors: .*gone.npy: No such file"):
        ids(tables, embed={"item_vectors": tmp_path / "gone.npy"})


def model_files(folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "model.safetensors", "README.md"):
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("config.json", True),
        ("tokenizer.json", True),
        ("model.safetensors", True),
        ("model-00002-of-00002.safetensors", True),
        ("vocab.txt", True),
        ("README.md", False),
        ("generation_config.json", False),
        ("pytorch_model.bin", False),
    ],
)
def test_a_language_model_is_what_its_files_hold(tmp_path: Path, name: str, counts: bool) -> None:
    folder = model_files(tmp_path / "one")
    before = language_model_content(LanguageModelSource(path=str(folder)))
    moved = Path(shutil.copytree(folder, tmp_path / "two"))
    assert language_model_content(LanguageModelSource(name="x", path=str(moved))) == before
    (folder / name).write_text("other")
    assert (language_model_content(LanguageModelSource(path=str(folder))) != before) == counts


@pytest.mark.parametrize("given", ["path", "source"])
def test_a_language_model_that_token_vectors_come_from_counts(
    tables: Path, tmp_path: Path, given: str
) -> None:
    folder = model_files(tmp_path / "one")
    path = str(folder) if given == "path" else LanguageModelSource(path=str(folder))
    embed = {"source": "language_model", "path": path}
    before = ids(tables, embed=embed)[0]
    (folder / "model.safetensors").write_text("other")
    assert ids(tables, embed=embed)[0] != before


def test_random_weights_are_their_shape_and_seed(tmp_path: Path) -> None:
    tokenizer = str(model_files(tmp_path / "tokenizer"))
    shape = {"model_type": "bert", "hidden_size": 8}

    def content(**more: Any) -> str:
        facts = {"random": True, "shape": shape, "tokenizer": tokenizer, **more}
        return language_model_content(LanguageModelSource.model_validate(facts))

    assert content() == content(name="other")
    assert len({content(), content(seed=1), content(shape={**shape, "hidden_size": 16})}) == 3


BRICK = '''
"""A brick of one's own."""
from typing import Literal
from torch import nn
from my_numbers import number
from legos.registry import BrickConfig, item_encoders

class MineConfig(BrickConfig):
    name: Literal["mine"] = "mine"

@item_encoders.register(MineConfig)
class Mine(nn.Module):
    """Text."""
    def __init__(self, settings):
        super().__init__()

    def twice(self):
        return 2 * number
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's own brick and a module that it reads, both imported."""
    (tmp_path / "my_numbers.py").write_text("number = 3\n")
    (tmp_path / "my_brick.py").write_text(BRICK)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(item_encoders, "_bricks", {**item_encoders._bricks})
    import_module("my_brick")
    yield tmp_path
    for name in ("my_brick", "my_numbers"):
        del sys.modules[name]


@pytest.mark.parametrize(
    ("file", "old", "new", "counts"),
    [
        ("my_brick.py", "2 * number", "3 * number", True),
        ("my_numbers.py", "3", "4", True),
        ("my_brick.py", '"""Text."""', '"""Other text."""', False),
        ("my_brick.py", "2 * number", "2 * number  # a remark", False),
    ],
)
def test_the_code_of_a_users_own_brick_counts(
    own: Path, tables: Path, file: str, old: str, new: str, counts: bool
) -> None:
    model = {**NAML, "item": {"name": "mine"}}
    before = ids(tables, model=model)
    path = own / file
    path.write_text(path.read_text().replace(old, new))
    assert (ids(tables, model=model) != before) == counts


def test_item_and_user_encoder_of_one_name_count_both(
    tables: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = {
        **NAML,
        "item": {"name": "additive_attention"},
        "user": {"name": "additive_attention"},
    }
    before = ids(tables, model=model)[0]
    for package in ("item", "user"):
        module = sys.modules[f"legos.{package}.additive_attention"]
        with monkeypatch.context() as changed:
            changed.setattr(
                module, "__file__", module.__file__.replace("additive_attention", "pooling")
            )
            assert ids(tables, model=model)[0] != before


def test_the_language_model_of_a_text_baseline_is_in_the_measurement(tables: Path) -> None:
    texts = {"baselines": ["text_cosine"]}
    config = tiny_config(tables, Path("runs"), **texts)
    assert "exp.evaluate.text_model" in measurement_identity(config).sources
    assert config.exp.evaluate.text_model is None  # the run's own vectors, or else MiniLM
    assert ids(tables, **texts)[0] == ids(tables)[0]


def test_rating_models_of_a_test_are_in_the_measurement_alone() -> None:
    from legos.config.load import load_run_config

    words = ["--data", "amazon-beauty", "--model", "recsysllm_small", "--exp", "recsysllm"]
    key = "model.measure.rating_models.size"
    one, other = (load_run_config([*words, *more]) for more in ([], [f"--{key}", "8"]))
    measured = frozenset({"measurement"})
    assert deciding(one, measured)[key] == 32
    assert deciding(other, measured)[key] == 8
    weights = frozenset({"weights", "choice"})
    assert deciding(one, weights) == deciding(other, weights)


def test_what_a_system_does_not_read_is_in_no_id(tables: Path, tmp_path: Path) -> None:
    system = {
        "system": "cllm4rec",
        "model": {"random": True, "shape": {"model_type": "gpt2"}, "tokenizer": "smollm2"},
    }
    found = []
    for train in ({}, {"item_lr": 0.5, "epochs": 3, "epoch_batch": 2}, {"seed": 9}, {"lr": 0.5}):
        config = tiny_config(tables, tmp_path, model={"name": "tiny", **system}, train=train)
        found.append(run_identity(config, Tables.load(tables)).id)
    assert found[0] == found[1]
    assert len(set(found)) == 3


@pytest.mark.parametrize(
    "key",
    [
        "beams",
        "search",
        "most_read",
        "users",
        "negatives",
        "max_tokens",
        "mean_shrink",
        "batch_size",
        "prompts",
    ],
)
def test_how_recsysllm_is_tested_trains_nothing_anew(key: str) -> None:
    marks = {each.key: each.mark.outcome for each in settings(RecsysllmConfig())}
    assert marks[f"measure.{key}"] in ("measurement", "nothing")
    assert {marks[f"measure.valid_{name}"] for name in ("users", "beams")} == {"weights"}


def every_section() -> Iterator[type[BaseModel]]:
    """Settings classes that a run's YAMLs reach."""
    waiting: list[type[BaseModel]] = [
        schema.RunConfig,
        *(registered_system(name).section for name in systems()),
    ]
    waiting += [
        bricks(family).config(name) for family in FAMILIES for name in bricks(family).names()
    ]
    seen: set[type[BaseModel]] = set()
    while waiting:
        section = waiting.pop()
        if section in seen:
            continue
        seen.add(section)
        yield section
        for hint in get_type_hints(section, include_extras=False).values():
            for each in (hint, *get_args(hint)):
                if isinstance(each, type) and issubclass(each, BaseModel):
                    waiting.append(each)


def test_language_models_and_files_of_every_section_count_by_content() -> None:
    """A new brick that names a language model without a mark would be known by its path."""
    unmarked = []
    for section in every_section():
        for name, field in section.model_fields.items():
            named = LanguageModelSource in (field.annotation, *get_args(field.annotation))
            marks = [each for each in field.metadata if isinstance(each, Mark)]
            inside = section in (exp_schema.VectorsConfig,)  # decides nothing as a whole
            if named and not inside and not any(mark.by_content for mark in marks):
                unmarked.append(f"{section.__name__}.{name}")
    assert not unmarked


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [(Cllm4RecConfig, "backbone.dtype", "bf16"), (RecsysllmConfig, "backbone.quantised", "nf4")],
)
def test_a_key_younger_than_runs_counts_where_it_is_set(
    section: type[BaseModel], key: str, value: str
) -> None:
    """Runs of before keep their ids."""
    weights, (outer, inner) = frozenset({"weights", "choice"}), key.split(".")
    given = {outer: {"train": "lora", inner: value}}
    assert key not in deciding(section(), weights)
    assert deciding(section.model_validate(given), weights)[key] == value


@pytest.mark.parametrize(
    ("train", "told"), [("lora", "paper"), ("paper", "paper"), ("qkv", "qkv"), ("full", "full")]
)
def test_adapters_of_recsysllm_are_told_by_the_names_of_before(train: str, told: str) -> None:
    config = RecsysllmConfig.model_validate({"backbone": {"train": train}})
    assert deciding(config, frozenset({"weights"}))["backbone.train"] == told


def test_settings_that_are_gone_keep_the_ids_of_finished_runs() -> None:
    told = deciding(RecsysllmConfig(), frozenset({"weights"}))
    for section, gone in (("positions", PositionSettings), ("masking", MaskingSettings)):
        old = {section: dict(gone.removed)}
        assert gone.removed
        assert RecsysllmConfig.model_validate(old) == RecsysllmConfig()
        assert {f"{section}.{key}": value for key, value in gone.removed.items()}.items() <= (
            told.items()
        )
    with pytest.raises(ValueError, match="dead_prefix"):
        PositionSettings.model_validate({"dead_prefix": "rollback"})

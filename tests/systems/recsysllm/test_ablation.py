"""The shipped ablation: its rows differ in what they say, in keys and in what is trained on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import worker
from legos.config.load import load_run_config
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.lm.load import LanguageModel
from legos.lm.settings import LanguageModelSource
from legos.systems.recsysllm.positions import IGNORE, Examples, appended
from legos.systems.recsysllm.recipe import TrainingStream, join_examples
from legos.systems.recsysllm.settings import RecsysllmModel
from legos.systems.recsysllm.world import World, open_world
from tests.systems.recsysllm.small import small_llama, spans_of
from tests.systems.recsysllm.system import word_language_model

BLANKS = {"positions.shuffle_spans": True, "masking.whole_entities": False}
AS_GLM = {"positions.intra_mode": "glm", **BLANKS}
DIFFERENCES: dict[str, dict[str, Any]] = {
    "recsysllm": {},
    "ids": {"tasks.item_text": "id"},
    "run": {"positions.intra_mode": "run"},
    "glm": {"positions.intra_mode": "glm"},
    "shuffled": {"positions.shuffle_spans": True},
    "tokens": {"masking.whole_entities": False},
    "as-glm": AS_GLM,
    "as-glm-ids": {"tasks.item_text": "id", **AS_GLM},
    "prompts-alone": {"train.infill_share": 0.0},
    "untrained": {"train.epochs": 0},
}


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if not isinstance(tree, dict):
        yield path, tree
        return
    for key, value in tree.items():
        yield from leaves(value, f"{path}.{key}" if path else key)


def runs(exp: str) -> dict[str, RunConfig]:
    config = load_run_config(["--data", "amazon-beauty", "--exp", exp, "--horizons", "count"])
    rows = config.rows()
    assert {row.reference for row in rows[1:]} == {rows[0].label}
    return {row.label: row.runs[0] for row in rows}


def settings(run: RunConfig) -> dict[str, Any]:
    told = {**run.model.model_dump(mode="json"), "train": run.exp.train.model_dump(mode="json")}
    return dict(leaves(told))


def differences(run: RunConfig, other: RunConfig) -> dict[str, Any]:
    own, theirs = settings(run), settings(other)
    return {key: own[key] for key in own if key != "name" and own[key] != theirs[key]}


def test_every_row_differs_from_the_first_in_what_it_says() -> None:
    found = runs("recsysllm-ablation")
    first = found["recsysllm"]
    assert {name: differences(run, first) for name, run in found.items()} == DIFFERENCES


def test_the_factorial_has_every_combination_once() -> None:
    keys = ("tasks.item_text", "positions.intra_mode", *BLANKS)
    wanted = product(("title", "id"), ("paper", "run", "glm"), (False, True), (True, False))
    own = []
    for name, run in runs("recsysllm-factorial").items():
        values = settings(run)
        text, mode, order, mask = (values[key] for key in keys)
        said = (text, mode, "any" if order else "order", "whole" if mask else "token")
        assert name == "-".join(said)
        own.append((text, mode, order, mask))
    assert own == list(wanted)


@pytest.fixture(scope="module")
def read(
    reviewed: Tables, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[World, Examples]]:
    """World and the histories with blanks of eight steps, by row."""
    source = LanguageModelSource(**word_language_model(tmp_path_factory.mktemp("words")))
    language = LanguageModel(source)
    special = appended(language.config.vocab_size)
    found = {}
    for name, run in runs("recsysllm-ablation").items():
        share = 0.0 if name == "prompts-alone" else 1.0
        train = run.exp.train.model_copy(update={"infill_share": share, "seed": 3})
        world = open_world(reviewed, language, RecsysllmModel.of(run.model), seed=3)
        stream = TrainingStream(world, special, train)
        found[name] = world, join_examples([stream.examples(step) for step in range(8)])
    return found


def part_b(examples: Examples) -> Tensor:
    return (examples.targets != IGNORE).nonzero()[:, 0]


def split_entities(world: World, examples: Examples) -> int:
    """Places in a prompt where an entity goes on whose beginning is behind a mask."""
    positions = examples.intra.where(examples.targets == IGNORE, 0)
    before = torch.cat([positions.new_zeros(1), positions[:-1]])
    return int(((positions > 1) & (before != positions - 1)).sum())


@pytest.mark.slow
def test_what_is_trained_on_differs_as_the_rows_say(
    read: dict[str, tuple[World, Examples]],
) -> None:
    world, first = read["recsysllm"]
    assert int((first.masks.lengths > 1).sum()) > 5
    assert split_entities(world, first) == 0
    for name in ("run", "glm"):  # other ids in blanks, nothing else
        other = read[name][1]
        for column in ("tokens", "targets", "inter", "offsets"):
            assert torch.equal(getattr(first, column), getattr(other, column)), (name, column)
        assert torch.equal(spans_of(first), spans_of(other)), name
        changed = (first.intra != other.intra).nonzero()[:, 0]
        assert len(changed) > 0
        assert set(changed.tolist()) <= set(part_b(first).tolist())
        assert (other.intra >= first.intra).all()  # they count on
    assert not torch.equal(read["run"][1].intra, read["glm"][1].intra)
    shuffled = read["shuffled"][1]  # the same blanks in another order
    assert torch.equal(first.prompt_lengths, shuffled.prompt_lengths)
    backwards = 0
    for row in range(len(first)):
        begin, end = (int(first.offsets[at]) for at in (row, row + 1))
        middle = begin + int(first.prompt_lengths[row])
        assert torch.equal(first.tokens[begin:middle], shuffled.tokens[begin:middle])
        own, theirs = (e.tokens[middle:end].sort().values for e in (first, shuffled))
        assert torch.equal(own, theirs)
        assert (first.inter[middle:end].diff() >= 0).all()  # in the order of time
        backwards += int((shuffled.inter[middle:end].diff() < 0).any())
    assert backwards > 3
    assert split_entities(*read["tokens"]) > 3


@pytest.mark.slow
def test_ids_stand_for_items_and_prompts_alone_have_one_blank(
    read: dict[str, tuple[World, Examples]],
) -> None:
    for name, (world, _) in read.items():
        is_id = name in ("ids", "as-glm-ids")
        catalogue = world.families.catalogue
        assert all(item.startswith("item_") == is_id for item in catalogue.items), name
        assert all(unit.text.startswith("item_") == is_id for unit in catalogue.item(0))
    assert read["prompts-alone"][1].masks.lengths.tolist() == [1] * 512


@pytest.mark.slow
def test_the_shipped_ablation_runs_on_a_small_world(reviewed: Tables, tmp_path: Path) -> None:
    """Every row is trained and measured; no two reach the same loss."""
    source = word_language_model(tmp_path / "llama")
    model = small_llama(words=source["shape"]["vocab_size"])
    model.save_pretrained(tmp_path / "llama")
    data = {
        "name": "reviewed", "folder": str(reviewed.folder), "fields": ["title@words"],
        "history_length": 10, "splits": {"test": ["test"]},
    }  # fmt: skip
    (tmp_path / "reviewed.yaml").write_text(json.dumps(data))
    words = {
        "data": tmp_path / "reviewed.yaml", "exp": "recsysllm-ablation", "device": "cpu",
        "llm_ver": tmp_path / "llama", "horizons": "count", "layers": "1", "epochs": "1",
        "epoch_steps": "2", "examples_per_step": "8", "users": "2", "valid_users": "2",
        "max_tokens": "200", "infill_share": "0.9", "exp.runs_folder": tmp_path / "runs",
        "model.measure.prompts": "[sequential-6]", "model.measure.max_tokens": "200",
        "model.masking.ratio": "0.5", "model.masking.document_weight": "0",
        "model.masking.sentence_weight": "0", "exp.report": "false",
    }  # fmt: skip
    command = [part for name, value in words.items() for part in (f"--{name}", str(value))]
    assert worker.main(command) == 0
    (path,) = (tmp_path / "runs").glob("reviewed/compare-*/results.json")
    rows = {row["name"]: row for row in json.loads(path.read_text())["rows"]["test"]}
    assert list(rows) == ["popularity", "item-kNN", *DIFFERENCES]
    losses = {}
    for name in DIFFERENCES:
        (lines,) = (tmp_path / "runs").glob(f"reviewed/{name}/*/metrics.jsonl")
        found = [json.loads(line) for line in lines.read_text().splitlines()]
        losses[name] = [line["train_loss"] for line in found if line["kind"] == "valid"]
    assert losses.pop("untrained") == []
    assert len({tuple(each) for each in losses.values()}) == len(losses)

"""Zero-shot: a model of one data set measured on another, whose items it has never seen."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import worker
from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.errors import CheckpointError, ConfigError
from legos.modes.main import run
from legos.runs.checkpoint import Checkpoint
from legos.systems.recsysllm.catalogue import Origin
from legos.systems.recsysllm.recipe import refuse_without_inter
from legos.systems.recsysllm.system import RecsysllmSystem
from legos.workplace.device import make_accelerator
from legos.workplace.workplace import Workplace
from process.amazon.assemble import Options, read_prepared
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import TokenizerSpec
from process.tables import write_tables
from tests.systems.recsysllm.reviews import write_raw
from tests.systems.recsysllm.system import system_config, yamls

SHARED_USERS = 12


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Tables:
    """Half of the users of the other tables, in another order, on items with longer titles."""
    folder = tmp_path_factory.mktemp("elsewhere")
    raw = write_raw(folder / "raw")
    items = [json.loads(line) for line in (raw / "items.jsonl").read_text().splitlines()]
    for row in items:
        row["price"] = 3.5
        row["title"] = f"A deluxe {row['title']} one by Acme"
    (raw / "items.jsonl").write_text("\n".join(map(json.dumps, items)))
    lines = [json.loads(line) for line in (raw / "reviews.jsonl").read_text().splitlines()]
    for row in lines:
        user = int(row["user_id"][1:])
        row["user_id"] = f"u{user}" if user >= SHARED_USERS else f"v{user}"
    (raw / "reviews.jsonl").write_text("\n".join(map(json.dumps, lines)))
    options = Options(filters=Filters(), negatives=Negatives(4, (5,), 0))
    found = read_prepared(raw, name="elsewhere", options=options)
    write_tables(found, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    return Tables.load(folder / "tables")


def opened(config: RunConfig) -> RecsysllmSystem:
    accelerator = make_accelerator(device="cpu", precision="fp32", deterministic=False)
    return RecsysllmSystem(Workplace.open(config, accelerator, Tables.load(config.data.folder)))


@pytest.fixture(scope="module")
def trained(reviewed: Tables, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Where it was trained and the folder of its run."""
    root = tmp_path_factory.mktemp("trained")
    run(system_config(reviewed.folder, root, model={"measure": {"prompts": ["sequential-6"]}}))
    (folder,) = (root / "runs/reviewed/recsysllm").iterdir()
    return root, folder


def other_config(tables: Tables, root: Path, folder: Path | None, **model: Any) -> RunConfig:
    model = {"model": json.loads((folder / "config.json").read_text())["model"]["model"], **model} \
        if folder else model  # fmt: skip
    return system_config(tables.folder, root, mode="test", load=folder and str(folder), model=model)


@pytest.mark.slow
def test_rows_say_where_it_was_trained_and_whom_it_knows(
    elsewhere: Tables,
    trained: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = other_config(elsewhere, tmp_path, trained[1])
    words = yamls(config, tmp_path)
    words[words.index("recsysllm")] = "recsysllm-transfer"
    words += ["--load", str(trained[1]), "--exp.report", "false"]
    assert worker.main([*words, "--check"]) == 0
    assert "trained on" in capsys.readouterr().out
    assert worker.main(words) == 0
    (path,) = (tmp_path / "runs").glob("reviewed/tiny/*/results.json")
    results = json.loads(path.read_text())
    rows, counts = (results["splits"]["test"][key] for key in ("rows", "counts"))
    assert results["trained_in"] == trained[1].name
    domain = "trained on reviewed: {} in another domain, users of both, unseen prompt transfer-{}"
    assert {"RMSE", "MAE", "parse rate"} <= rows[domain.format("rating", 2)].keys()
    assert {"RMSE", "MAE"} <= rows[domain.format("rating", 1)].keys()
    for number in (3, 4):
        assert "accuracy" in rows[domain.format("like or dislike", number)]
    for number in (5, 6, 7):
        assert {"BLEU-4", "ROUGE-L"} <= rows[domain.format("explanation", number)].keys()
    assert "trained on reviewed: rating, unseen prompt rating-10" in rows
    assert "trained on reviewed: sequential, unseen prompt sequential-13" in rows
    assert "rating in another domain, users of both, user and item means (no model)" in rows
    both = counts[domain.format("rating", 2)]["available"]
    everyone = counts["trained on reviewed: rating, unseen prompt rating-10"]["available"]
    assert 0 < both < everyone


@pytest.mark.slow
def test_users_of_both_keep_their_names_and_others_have_nobodys(
    reviewed: Tables, elsewhere: Tables, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    system = opened(other_config(elsewhere, tmp_path, trained[1]))
    origin = system.origin
    assert origin is not None
    names = dict(
        zip(elsewhere.vocabulary("user_id"), system.world.families.catalogue.users, strict=True)
    )
    before = reviewed.vocabulary("user_id")
    assert len(set(names.values())) == len(names)
    for user, name in names.items():
        number = int(name.removeprefix("user_"))
        assert (before[number] == user) if user in before else number >= len(before)
    task = system.world.families.about_reviews["transfer"]
    rows = task.evaluation_rows("test", "transfer-2")
    asked = [elsewhere.vocabulary("user_id")[u] for u in task.rows.users[rows].tolist()]
    assert asked
    assert all(user.startswith("u") for user in asked)
    assert "transfer" not in system.world.families.mixture().names
    moved = Origin("reviewed")  # the tables are gone: nobody is known
    assert moved.user_names(elsewhere)[:2] == ["guest_0", "guest_1"]
    assert not moved.known_users(elsewhere).any()


@pytest.mark.slow
def test_positions_follow_the_checkpoint_and_nothing_else_is_bent(
    reviewed: Tables, elsewhere: Tables, trained: tuple[Path, Path], tmp_path: Path
) -> None:
    stored = load_file(trained[1] / "checkpoints/best/model.safetensors")
    system = opened(other_config(elsewhere, tmp_path, trained[1]))
    rows = stored["intra.table.weight"].shape[0]
    assert system.backbone.intra.table.num_embeddings > rows  # type: ignore[union-attr]
    system.load(trained[1] / "checkpoints/best")
    own = dict(system.backbone.named_parameters())
    assert all(torch.equal(own[name], tensor) for name, tensor in stored.items())
    own_tables = opened(other_config(reviewed, tmp_path, trained[1], backbone={"max_intra": 50}))
    assert own_tables.origin is None  # the same tables: no transfer, no other positions
    with pytest.raises(CheckpointError, match="another model"):
        own_tables.load(trained[1] / "checkpoints/best")


def test_a_decoder_that_was_trained_without_inter_positions_is_refused() -> None:
    old = {"intra.table.weight": torch.zeros(2, 4)}
    with pytest.raises(CheckpointError, match=r"old: has no table of .*; train it again"):
        refuse_without_inter(Checkpoint(model=old, optimizer={}, state={}), Path("old"))
    new = old | {"inter.table.weight": torch.zeros(2, 4)}
    refuse_without_inter(Checkpoint(model=new, optimizer={}, state={}), Path("new"))


def test_transfer_prompts_need_other_tables(reviewed: Tables, tmp_path: Path) -> None:
    config = system_config(
        reviewed.folder, tmp_path, model={"measure": {"prompts": ["transfer-2"]}}
    )
    with pytest.raises(ConfigError, match="--exp recsysllm-transfer --load RUN_FOLDER"):
        opened(config)

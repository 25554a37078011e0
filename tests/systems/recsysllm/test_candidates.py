"""Frozen candidates: drawn once, the same for everyone, checked when they are read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from legos.data.tables import Tables
from legos.errors import DataError
from legos.files import write_array
from legos.systems.recsysllm.settings import TaskSettings
from legos.systems.recsysllm.tasks.candidates import (
    Candidates,
    frozen_candidates,
    split_of_candidates,
    table_candidates,
)
from legos.systems.recsysllm.tasks.events import Sequences
from legos.systems.recsysllm.world import TaskFamilies


def freeze(folder: Path, tables: Tables, *, seed: int = 0, split: str = "test") -> Candidates:
    return frozen_candidates(
        folder, Sequences.from_tables(tables), tables=tables.fingerprint, split=split,
        seed=seed, negatives=9,
    )  # type: ignore[arg-type]  # fmt: skip


def test_candidates_are_the_target_and_items_never_had(reviewed: Tables, tmp_path: Path) -> None:
    sequences = Sequences.from_tables(reviewed)
    found = freeze(tmp_path / "c", reviewed)
    assert found.items[:, 0].tolist() == sequences.targets("test").tolist()
    seen = sequences.seen()
    for row in range(len(sequences)):
        own = set(seen.values[seen.offsets[row] : seen.offsets[row + 1]].tolist())
        negatives = found.items[row, 1:].tolist()
        assert len(set(negatives)) == 9
        assert not own & set(negatives)


def test_they_are_drawn_once_and_alike_anywhere(reviewed: Tables, tmp_path: Path) -> None:
    one, other = freeze(tmp_path / "a", reviewed), freeze(tmp_path / "b", reviewed)
    assert one.fingerprint == other.fingerprint
    before = (tmp_path / "a" / "candidates.npy").stat().st_mtime_ns
    assert torch.equal(freeze(tmp_path / "a", reviewed).items, one.items)
    assert (tmp_path / "a" / "candidates.npy").stat().st_mtime_ns == before
    assert not torch.equal(freeze(tmp_path / "s", reviewed, seed=1).items, one.items)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "s"]  # no leftovers


def test_what_was_made_for_something_else_is_refused(reviewed: Tables, tmp_path: Path) -> None:
    freeze(tmp_path / "c", reviewed)
    with pytest.raises(DataError, match="seed is 0, expected 1"):
        freeze(tmp_path / "c", reviewed, seed=1)
    with pytest.raises(DataError, match="split is 'test', expected 'valid'"):
        freeze(tmp_path / "c", reviewed, split="valid")


@pytest.mark.parametrize("fault", ["changed", "missing", "manifest", "cut"])
def test_damage_is_named(reviewed: Tables, tmp_path: Path, fault: str) -> None:
    folder = tmp_path / "c"
    freeze(folder, reviewed)
    array, manifest = folder / "candidates.npy", folder / "manifest.json"
    if fault == "changed":
        write_array(array, np.load(array)[:, ::-1])
    elif fault == "missing":
        array.unlink()
    elif fault == "manifest":
        content = json.loads(manifest.read_text())
        content["files"]["candidates.npy"] = "0" * 64
        manifest.write_text(json.dumps(content))
    else:
        manifest.write_text(manifest.read_text()[:40])
    messages = {
        "changed": "damaged", "missing": "missing", "manifest": "was changed after",
        "cut": "manifest.json:3: not JSON",
    }  # fmt: skip
    with pytest.raises(DataError, match=messages[fault]):
        freeze(folder, reviewed)


def test_prompts_show_frozen_candidates_in_an_order_of_their_own(
    reviewed: Tables, tmp_path: Path
) -> None:
    made = TaskFamilies.from_tables(reviewed, TaskSettings(num_negatives=5), seed=0)
    frozen = freeze(tmp_path / "c", reviewed)
    rows = torch.arange(len(made.sequences))
    direct = made.users["direct"]
    shown = direct.evaluate(rows, "direct-8", "test", frozen)
    for row, one in enumerate(shown):
        assert sorted(one.candidates) == sorted(frozen.items[row].tolist())
        assert [u.key for u in one.prompt if u.entity_type == "item"] == list(one.candidates)
    places = {one.candidates.index(one.item) for one in shown}
    assert len(places) > 3  # the target is not always in the same place
    with pytest.raises(DataError, match="not those of split 'valid'"):
        direct.evaluate(rows, "direct-8", "valid", frozen)


def test_the_tables_own_split_is_what_everyone_ranks(reviewed: Tables) -> None:
    sequences = Sequences.from_tables(reviewed)
    assert split_of_candidates(reviewed, "test", 9) == "test_9"
    assert split_of_candidates(reviewed, "valid", 8) is None
    for split in ("valid", "test"):
        found = table_candidates(reviewed, sequences, f"{split}_9", split=split)
        shown = reviewed.lists(f"{split}_9", "candidates").values.view(-1, 10).long()
        clicks = reviewed.lists(f"{split}_9", "labels").values.view(-1, 10)
        users = reviewed.scalar(f"{split}_9", "user_id").tolist()
        for row, user in enumerate(found.users.tolist()):
            at = users.index(user)
            assert found.items[row, 0] == shown[at, clicks[at] == 1]
            assert found.items[row, 1:].tolist() == shown[at, clicks[at] == 0].tolist()
    again = table_candidates(reviewed, sequences, "test_9", split="test")
    other = table_candidates(reviewed, sequences, "valid_9", split="valid")
    assert len({again.fingerprint, found.fingerprint, other.fingerprint}) == 2


@pytest.mark.parametrize("fault", ["split", "known", "clicks"])
def test_a_split_that_is_no_task_of_one_and_n_is_refused(
    reviewed: Tables, tmp_path: Path, fault: str
) -> None:
    shutil.copytree(reviewed.folder, tmp_path / "tables")
    columns = tmp_path / "tables/columns/test_9"
    messages = {"split": "other users or clicks than valid", "known": "is an item of its user"}
    if fault == "known":  # the first negative of user row 0 becomes the click of the valid split
        items = np.load(columns / "candidates.values.npy")
        at = int((np.load(columns / "labels.values.npy")[:10] == 0).argmax())
        user = int(np.load(columns / "user_id.npy")[0])
        row = reviewed.scalar("valid", "user_id").tolist().index(user)
        valid = reviewed.lists("valid", "candidates").select(torch.tensor([row])).values
        labels = reviewed.lists("valid", "labels").select(torch.tensor([row])).values
        items[at] = valid[labels == 1]
        np.save(columns / "candidates.values.npy", items)
    elif fault == "clicks":
        labels = np.load(columns / "labels.values.npy")
        labels[:10] = 1
        np.save(columns / "labels.values.npy", labels)
    tables = Tables.load(tmp_path / "tables")
    with pytest.raises(DataError, match=messages.get(fault, "expected one click")):
        table_candidates(
            tables, Sequences.from_tables(tables), "test_9",
            split="valid" if fault == "split" else "test",
        )  # fmt: skip

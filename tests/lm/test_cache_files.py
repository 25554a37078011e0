"""``worker.py --exp cache`` with --list, --verify, --prune: what there is, is whole, can go."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

import worker
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import finished_parts, lock
from legos.lm.hidden_writer import write_parts
from tests.lm.cached import LAYER, LOWER, PARTS, TOKENS, Counted, cache, states

EXP = ["--exp", "config/exp/cache.yaml", "--cache_folder"]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def made(tmp_path: Path) -> HiddenCache:
    """A finished cache of three parts in several shards."""
    found = cache(tmp_path / "tiny")
    write_parts(found, TOKENS, PARTS, states, dtype="fp16", shard_bytes=64)
    return found


def interrupted(folder: Path, **facts: object) -> HiddenCache:
    """A cache whose first write was stopped after two shards."""
    found = cache(folder, **facts)
    with pytest.raises(KeyboardInterrupt):
        write_parts(found, TOKENS, [LAYER], Counted(2), dtype="fp16", shard_bytes=32)
    return found


def call(folder: Path, errand: str, *more: str) -> int:
    return worker.main([*EXP, str(folder), f"--{errand}", *more])


def test_a_list_has_a_line_for_every_cache(
    made: HiddenCache, tmp_path: Path, capsys: Output
) -> None:
    other = interrupted(tmp_path / "large", model="large")
    damaged = cache(tmp_path / "tiny", model="old")
    write_parts(damaged, TOKENS, [LAYER], states, dtype="fp32")
    (damaged.path / "layout.json").write_text("{")
    assert call(tmp_path, "list") == 0
    head, *lines = capsys.readouterr().out.splitlines()
    cells = {line.split()[1]: line for line in lines}
    assert head.split()[:2] == ["model", "fingerprint"]
    assert len(lines) == 3
    finished = cells[made.path.name[:12]]
    day = time.strftime("%Y-%m-%d")
    for text in ("tiny", "newsroom", "pooled, layer_2, layer_11", "fp16", " 8 ", " 18 ", day):
        assert text in finished
    assert "unfinished" not in finished
    assert "finished" in finished
    assert "layer_2 (unfinished)" in cells[other.path.name[:12]]
    assert "damaged" in cells[damaged.path.name[:12]]


def test_an_opening_is_shown_as_use(made: HiddenCache, tmp_path: Path, capsys: Output) -> None:
    age(made, 400)
    assert call(tmp_path, "list") == 0
    assert time.strftime("%Y-%m-%d") not in capsys.readouterr().out
    made.open(LAYER.name)
    assert call(tmp_path, "list") == 0
    assert time.strftime("%Y-%m-%d") in capsys.readouterr().out


def age(made: HiddenCache, days: int) -> None:
    then = time.time() - days * 24 * 60 * 60
    for path in [made.path, *made.path.rglob("*")]:
        os.utime(path, (then, then))


def test_verify_reads_every_byte(made: HiddenCache, tmp_path: Path, capsys: Output) -> None:
    interrupted(tmp_path / "large", model="large")  # is checked when its write goes on
    assert call(tmp_path, "verify") == 0
    assert "3 parts in 9 files" in capsys.readouterr().out
    victims = [made.path / LAYER.name / "00001.npy", made.path / "pooled" / "00002.npy"]
    for victim in victims:
        content = bytearray(victim.read_bytes())
        content[-1] ^= 1
        victim.write_bytes(content)
    (made.path / LOWER.name / "manifest.json").write_text("[]")
    assert call(tmp_path, "verify") == 2
    error = capsys.readouterr().err
    assert "3 damaged" in error
    for victim in victims:
        assert f"{victim}: damaged" in error
    assert f"{made.path / LOWER.name / 'manifest.json'}: expected an object, found []" in error
    assert str(made.path / LAYER.name / "00000.npy") not in error
    (made.path / "facts.json").unlink()
    assert call(tmp_path, "verify") == 2
    assert f"{made.path / 'facts.json'}: missing" in capsys.readouterr().err


def test_prune_leaves_what_is_whole(made: HiddenCache, tmp_path: Path, capsys: Output) -> None:
    before = sorted(tmp_path.rglob("*"))
    (tmp_path / "tiny" / "notes.txt").write_text("mine")
    (tmp_path / "tiny" / ("b" * 24)).mkdir()  # it looks like a cache and has nothing of one
    assert call(tmp_path, "prune") == 0
    assert capsys.readouterr().out == f"{tmp_path}: 0 bytes freed\n"
    mine = [tmp_path / "tiny" / "notes.txt", tmp_path / "tiny" / ("b" * 24)]
    assert sorted(tmp_path.rglob("*")) == sorted([*before, *mine])
    assert made.open(LAYER.name).width == LAYER.width


def test_prune_removes_what_is_of_no_use(made: HiddenCache, tmp_path: Path, capsys: Output) -> None:
    half = interrupted(tmp_path / "large", model="large")
    old_format = cache(tmp_path / "tiny", model="old")
    write_parts(old_format, TOKENS, [LAYER], states, dtype="fp32")
    facts = old_format.path / "facts.json"
    facts.write_text(facts.read_text().replace('"format": 1', '"format": 0'))
    shard = made.path / LOWER.name / "00001.npy"
    shard.write_bytes(shard.read_bytes()[:-1])
    (made.path / "layer_7").mkdir()
    (made.path / "layer_7" / "00000.npy").write_bytes(b"0" * 1000)
    (made.path / LAYER.name / ".00002.npy.99.part").write_bytes(b"0" * 500)
    removed = made.path.with_name("a" * 24 + ".removed")
    removed.mkdir()
    (removed / "00000.npy").write_bytes(b"0" * 70)
    assert call(tmp_path, "prune") == 0
    output = capsys.readouterr().out
    assert finished_parts(made.path) == ["pooled", "layer_2"]
    assert sorted(path.name for path in made.path.iterdir() if path.is_dir()) == [
        "layer_2",
        "pooled",
    ]
    assert not list(made.path.rglob(".*"))
    assert not (tmp_path / "large").exists()
    assert [path.name for path in (tmp_path / "tiny").iterdir()] == [made.path.name]
    assert f"removed {half.path}" in output
    assert "a cache of format 0" in output
    assert f"{shard}: damaged" in output
    assert "left by a killed prune" in output
    made.open(LAYER.name)


def test_prune_leaves_what_another_process_writes(
    made: HiddenCache, tmp_path: Path, capsys: Output
) -> None:
    half = interrupted(tmp_path / "large", model="large")
    before = sorted(half.path.rglob("*"))
    with lock(half.path):
        assert call(tmp_path, "prune") == 0
    assert f"kept {half.path}: process {os.getpid()} is working" in capsys.readouterr().out
    assert sorted(half.path.rglob("*")) == before


def test_prune_removes_what_nothing_reads(made: HiddenCache, tmp_path: Path) -> None:
    age(made, 31)
    read = cache(tmp_path / "tiny", model="read")
    write_parts(read, TOKENS, [LAYER], states, dtype="fp32")
    age(read, 31)
    read.open(LAYER.name)
    assert call(tmp_path, "prune") == 0
    assert made.parts() == ["pooled", "layer_2", "layer_11"]
    assert call(tmp_path, "prune", "--exp.cache.keep_days", "40") == 0
    assert made.parts() == ["pooled", "layer_2", "layer_11"]
    assert call(tmp_path, "prune", "--exp.cache.keep_days", "30") == 0
    assert not made.path.exists()
    assert read.parts() == ["layer_2"]


@pytest.mark.parametrize("words", [["--list"], ["--verify"], ["--prune"]])
def test_without_caches_there_is_nothing_to_do(
    words: list[str], tmp_path: Path, capsys: Output
) -> None:
    folder = str(tmp_path / "none")
    assert worker.main(["--exp=cache", *words, "--exp.cache.folder", folder]) == 0
    assert folder in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--verify"], "--verify needs --exp config/exp/cache.yaml"),
        (["--data", "mind", "--prune"], "--prune needs --exp"),
        (["--exp", "cache", "--list", "--verify"], "--list, --verify: give only one of them"),
        (["--exp", "tt", "--list"], "--list: exp.mode is 'train_test'"),
        (["--exp", "cache", "--list", "--data", "mind"], "--data: only --exp and its keys"),
        (["--exp", "cache", "--list", "--model.item.dropout", "0"], "--model.item.dropout: only"),
        (["--exp", "cash", "--list"], "did you mean 'cache'"),
        (["--list", "--exp"], "--exp: needs a value"),
        (["--exp", "cache", "--prune", "--exp.cache.keep_days", "0"], "exp.cache.keep_days"),
        (["--exp", "cache", "--prune", "--exp.cache.layers", "[1, 1]"], "layer 1 given twice"),
        (["--exp", "cache", "--prune", "--cache_foldr", "x"], "did you mean 'cache_folder'"),
    ],
)
def test_mistakes_are_told(words: list[str], message: str, capsys: Output) -> None:
    assert worker.main(words) == 2
    assert message in capsys.readouterr().err

"""The hidden-state cache gives back what was computed, computes nothing twice, trusts no file."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from legos.data.ragged import Ragged
from legos.errors import ConfigError, DataError
from legos.lm.hidden_cache import HiddenCache
from legos.lm.hidden_files import CachedPart, CacheInUseError, lock
from legos.lm.hidden_writer import write_parts
from legos.lm.text_model import DTYPES
from tests.lm.cached import (
    LAYER,
    LOWER,
    PARTS,
    POOLED,
    TEXTS,
    TOKENS,
    Counted,
    cache,
    ragged,
    states,
)

SMALL = 64  # bytes a shard: four rows of a layer in fp32


def written(folder: Path, dtype: str = "fp32", shard_bytes: int = SMALL) -> HiddenCache:
    made = cache(folder)
    write_parts(made, TOKENS, PARTS, states, dtype=dtype, shard_bytes=shard_bytes)
    return made


def expected(part: CachedPart, tokens: Ragged, items: torch.Tensor) -> Ragged:
    """What ``select`` must find: the states of exactly those items."""
    page = tokens.select(items)
    ones = torch.arange(len(page) + 1)
    return Ragged(states(page)[part.name], page.offsets if part.per == "token" else ones)


@pytest.mark.parametrize("shard_bytes", [1, SMALL, 2**20])
@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
@pytest.mark.parametrize("dtype", DTYPES)
def test_what_was_written_is_read_back(
    tmp_path: Path, dtype: str, part: CachedPart, shard_bytes: int
) -> None:
    made = written(tmp_path, dtype, shard_bytes)
    found = made.open(part.name)
    items = torch.tensor([7, 3, 3, 0, 1, 4, 5])
    selected, reference = found.select(items), expected(part, TOKENS, items)
    assert (selected.values.dtype, found.dtype) == (DTYPES[dtype], DTYPES[dtype])
    assert torch.equal(selected.values.float(), reference.values)
    assert torch.equal(selected.offsets, reference.offsets)
    assert (len(found), found.width) == (len(TOKENS), part.width)
    lengths = TOKENS.lengths if part.per == "token" else torch.ones(len(TOKENS))
    assert torch.equal(found.lengths, lengths.long())
    assert found.to("cpu") is found
    assert made.parts() == ["pooled", "layer_2", "layer_11"]
    size = sum(file.stat().st_size - 128 for file in made.path.glob("*/*.npy"))
    assert made.size(TOKENS, PARTS, dtype) == size


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.lists(st.integers(1, 999), max_size=6), max_size=9),
    shard_bytes=st.integers(1, 300),
    data=st.data(),
)
def test_select_equals_computing_the_states_of_these_items(
    texts: list[list[int]], shard_bytes: int, data: st.DataObject
) -> None:
    number = st.integers(0, len(texts) - 1)
    items = torch.tensor(data.draw(st.lists(number, max_size=12)) if texts else []).long()
    tokens = ragged(texts)
    with tempfile.TemporaryDirectory() as folder:
        made = cache(Path(folder), tokens)
        write_parts(made, tokens, PARTS, states, dtype="fp32", shard_bytes=shard_bytes)
        for part in PARTS:
            selected = made.open(part.name).select(items)
            reference = expected(part, tokens, items)
            assert torch.equal(selected.values, reference.values)
            assert torch.equal(selected.offsets, reference.offsets)


def test_a_shard_holds_no_more_than_asked_but_for_one_large_item(tmp_path: Path) -> None:
    made = written(tmp_path)
    sizes = [file.stat().st_size - 128 for file in sorted((made.path / LAYER.name).glob("*.npy"))]
    assert len(sizes) >= 4
    assert [size for size in sizes if size > SMALL] == [len(TEXTS[3]) * 16]
    assert sum(sizes) == TOKENS.values.numel() * 16


@pytest.mark.parametrize("stop_after", range(5))
def test_a_stopped_write_goes_on_where_it_was(tmp_path: Path, stop_after: int) -> None:
    stopped, done = Counted(stop_after), []
    made = cache(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        write_parts(made, TOKENS, PARTS, stopped, dtype="fp32", shard_bytes=SMALL)
    assert made.parts() == []
    assert "unfinished" in str(made.why_missing(LAYER.name)) or stop_after == 0
    with pytest.raises(DataError):
        made.open(LAYER.name)
    (made.path / LAYER.name).mkdir(exist_ok=True)
    leftover = made.path / LAYER.name / ".00009.npy.77.part"
    leftover.write_bytes(b"half")
    goes_on = Counted()
    write_parts(made, TOKENS, PARTS, goes_on, dtype="fp32", shard_bytes=2**20, advance=done.append)
    pages = [*stopped.seen, *goes_on.seen]
    assert list(chain(*pages)) == TOKENS.values.tolist()  # all, once, in order
    assert len(stopped.seen) == stop_after
    assert sum(done) == TOKENS.values.numel()
    assert not leftover.exists()
    every = torch.arange(len(TOKENS))
    for part in PARTS:
        found = made.open(part.name).select(every).values.float()
        assert torch.equal(found, expected(part, TOKENS, every).values)


@pytest.mark.multiprocess
def test_a_killed_process_leaves_what_another_goes_on_with(tmp_path: Path) -> None:
    script = (
        "import time, sys; from pathlib import Path; from tests.lm.cached import *\n"
        "from legos.lm.hidden_writer import write_parts\n"
        "def slow(page):\n    print('page', flush=True); time.sleep(0.05); return states(page)\n"
        "write_parts(cache(Path(sys.argv[1])), TOKENS, PARTS, slow, dtype='fp32', shard_bytes=64)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for _ in range(3):
        process.stdout.readline()
    made = cache(tmp_path)
    with pytest.raises(CacheInUseError, match=f"process {process.pid} is working on this cache"):
        write_parts(made, TOKENS, PARTS, states, dtype="fp32", shard_bytes=SMALL)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    sealed = len(list((made.path / POOLED.name).glob("*.json")))  # the last part of a page
    goes_on = Counted()
    write_parts(made, TOKENS, PARTS, goes_on, dtype="fp32", shard_bytes=SMALL)
    assert sealed >= 2
    assert len(goes_on.seen) == len(list((made.path / POOLED.name).glob("*.npy"))) - sealed
    every = torch.arange(len(TOKENS))
    found = made.open(LAYER.name).select(every).values
    assert torch.equal(found, expected(LAYER, TOKENS, every).values)


def test_a_finished_part_is_not_computed_again(tmp_path: Path) -> None:
    made, counted = cache(tmp_path), Counted()
    write_parts(made, TOKENS, [LAYER], states, dtype="fp32", shard_bytes=SMALL)
    write_parts(made, TOKENS, [LAYER], Counted(0), dtype="fp32", shard_bytes=SMALL)
    write_parts(made, TOKENS, [LAYER, POOLED], counted, dtype="fp32")
    assert list(chain(*counted.seen)) == TOKENS.values.tolist()
    assert made.parts() == ["pooled", "layer_2"]
    assert str(made.why_missing("layer_5")).endswith(
        "this cache has only pooled, layer_2, not layer_5"
    )


def test_a_damaged_shard_of_an_unfinished_part_is_computed_again(tmp_path: Path) -> None:
    made = written(tmp_path)
    (made.path / LAYER.name / "manifest.json").unlink()
    flip(made.path / LAYER.name / "00000.npy", -1)
    counted = Counted()
    write_parts(made, TOKENS, PARTS, counted, dtype="fp32")
    assert counted.seen == [TEXTS[0]]
    first = made.open(LAYER.name).select(torch.tensor([0])).values
    assert torch.equal(first, expected(LAYER, TOKENS, torch.tensor([0])).values)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.slow
def test_any_flipped_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    made = written(tmp_path / "whole")
    files = [LAYER.name + "/00001.npy", LAYER.name + "/manifest.json"]
    files += ["facts.json", "layout.json", "tokens.npy", "offsets.npy"]
    every, refused = torch.arange(len(TOKENS)), 0
    whole = made.open(LAYER.name).select(every).values
    for file in files:
        content = (made.path / file).read_bytes()
        for place in range(0, len(content), 1 if file.endswith("npy") else 3):
            flip(made.path / file, place)
            try:
                found = made.open(LAYER.name).select(every).values
            except DataError:
                refused += 1
            else:
                assert not file.endswith(".npy")  # a space of a JSON
                assert torch.equal(found, whole)
            (made.path / file).write_bytes(content)
    assert refused > 500


@pytest.mark.parametrize("file", ["00002.npy", "manifest.json"])
@pytest.mark.parametrize("keep", [0, -1])
def test_a_truncated_or_missing_file_is_refused_by_name(
    tmp_path: Path, file: str, keep: int
) -> None:
    made = written(tmp_path)
    path = made.path / LAYER.name / file
    path.write_bytes(path.read_bytes()[: keep if keep else 0])
    if file == "manifest.json" and keep == -1:
        path.write_bytes(path.read_bytes()[:-3])  # without the closing bracket
    with pytest.raises(DataError, match=rf"{file}: damaged|{file}:\d+: not JSON"):
        made.open(LAYER.name)
    assert made.open(LOWER.name).width == LOWER.width
    if file != "manifest.json":
        path.unlink()
        with pytest.raises(DataError, match=f"{file}: missing"):
            made.open(LAYER.name)


def test_another_cache_nearby_explains_what_differs(tmp_path: Path) -> None:
    assert str(cache(tmp_path).why_missing(LAYER.name)).endswith("nothing is cached yet")
    made = written(tmp_path)
    assert made.why_missing(LAYER.name) is None
    other = str(cache(tmp_path, model="large").why_missing(LAYER.name))
    assert other.endswith(f'differs from {made.path} in model ("large" here, "tiny" there)')
    two = str(cache(tmp_path, model="large", texts="b").why_missing(LAYER.name))
    assert 'model ("large" here' in two
    assert 'texts ("b" here' in two


def test_the_items_whose_text_changed_are_named(tmp_path: Path) -> None:
    made = written(tmp_path)

    def reason(texts: list[list[int]]) -> str:
        return str(cache(tmp_path, ragged(texts), texts="b").why_missing(LAYER.name))

    one = reason([*TEXTS[:5], [18, 99], *TEXTS[6:]])
    assert one == (f"no cache for this: the text of item 'N105' differs from {made.path} (1 item)")
    many = reason([[token, 1] for token in range(8)])
    assert "the texts of items 'N100', 'N101', 'N102', 'N103', 'N104' and 3 more differ" in many
    assert many.endswith("(8 items)")
    longer = reason([[6, 6, 7], *TEXTS[1:], [3]])
    assert "the text of item 'N100' differs" in longer
    assert longer.endswith("(1 item; 9 items here, 8 there)")
    with pytest.raises(DataError, match="the text of item 'N105' differs"):
        cache(tmp_path, ragged([*TEXTS[:5], [18, 99], *TEXTS[6:]]), texts="b").open(LAYER.name)


def test_facts_that_overlook_a_change_of_the_texts_are_found_out(tmp_path: Path) -> None:
    written(tmp_path)
    changed = ragged([[1, 2, 3], *TEXTS[1:]])
    with pytest.raises(DataError, match="other token ids"):
        cache(tmp_path, changed).open(LAYER.name)
    more = CachedPart("layer_3", 4, "token")
    with pytest.raises(DataError, match="other token ids"):
        write_parts(cache(tmp_path, changed), changed, [more], states, dtype="fp32")


@pytest.mark.parametrize("part", [LAYER, POOLED], ids=lambda part: part.name)
@pytest.mark.parametrize(
    ("dtype", "value", "message"),
    [
        ("fp32", float("nan"), "are not finite"),
        ("bf16", float("-inf"), "are not finite"),
        ("fp16", 70000.0, r"reach 70000, more than fp16 holds \(65504\)"),
    ],
)
def test_items_whose_states_are_no_numbers_are_named(
    tmp_path: Path, part: CachedPart, dtype: str, value: float, message: str
) -> None:
    def bad(page: Ragged) -> dict[str, torch.Tensor]:
        found = states(page)
        broken = page.rows[(page.values >= 18)] if part.per == "token" else None
        if broken is not None:
            found[part.name][page.values >= 18, 1] = value
        else:
            sums = states(page)[part.name][:, 0]
            found[part.name][sums >= 22] = value
        return found

    made = cache(tmp_path)
    named = "'N105', 'N106', 'N107'" if part is LAYER else "'N103', 'N105', 'N106', 'N107'"
    with pytest.raises(DataError, match=f"{part.name}: .* items {named} {message}"):
        write_parts(made, TOKENS, PARTS, bad, dtype=dtype)
    assert not list(made.path.glob("*/*"))  # nothing of that page, whatever the part
    write_parts(made, TOKENS, PARTS, states, dtype=dtype)
    assert made.open(part.name).width == part.width


def test_of_many_items_five_are_named_and_earlier_pages_stay(tmp_path: Path) -> None:
    def bad(page: Ragged) -> dict[str, torch.Tensor]:
        value = 1.0 if 1 in page.values else float("nan")
        return {LAYER.name: torch.full((page.values.numel(), 4), value)}

    tokens = ragged([[1], [1], [1], [1], *[[token] for token in range(2, 9)]])
    made = cache(tmp_path, tokens)
    with pytest.raises(DataError, match="items 'N104', 'N105', 'N106', 'N107' are not finite"):
        write_parts(made, tokens, [LAYER], bad, dtype="fp32", shard_bytes=SMALL)
    assert [path.name for path in made.path.glob("*/*.npy")] == ["00000.npy"]
    tokens = ragged([[token] for token in range(2, 9)])
    other = cache(tmp_path, tokens, model="large")
    with pytest.raises(DataError, match="'N103', 'N104' and 2 more are not finite"):
        write_parts(other, tokens, [LAYER], bad, dtype="fp32")


def test_a_full_disk_is_refused_before_anything_is_computed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = cache(tmp_path)
    needed = made.size(TOKENS, PARTS, "fp32") + 4 * TOKENS.values.numel() + 8 * (len(TOKENS) + 1)

    def disk(free: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))

    disk(needed - 1)
    with pytest.raises(ConfigError, match=f"take {needed} bytes, the disk has {needed - 1} bytes"):
        write_parts(made, TOKENS, PARTS, Counted(0), dtype="fp32")
    disk(needed)
    with pytest.raises(KeyboardInterrupt):
        write_parts(made, TOKENS, PARTS, Counted(2), dtype="fp32", shard_bytes=SMALL)
    disk(needed - 200)  # what is there need not fit again
    write_parts(made, TOKENS, PARTS, states, dtype="fp32")


def test_states_of_another_shape_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"layer_2: states of shape \(18, 3\), not \(18, 4\)"):
        write_parts(
            cache(tmp_path),
            TOKENS,
            [LAYER],
            lambda page: {LAYER.name: torch.zeros(18, 3)},
            dtype="fp32",
        )
    with pytest.raises(ConfigError, match="did you mean 'fp16'"):
        write_parts(cache(tmp_path), TOKENS, [LAYER], states, dtype="float16")


def test_states_too_large_for_a_device_stay_where_they_are(tmp_path: Path) -> None:
    moved = written(tmp_path).open(LAYER.name).to("meta")  # a device without any free memory
    found = moved.select(torch.tensor([3]))
    assert (found.values.device.type, moved.shards[0].device.type) == ("meta", "cpu")
    assert found.values.shape == (9, 4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_states_on_a_gpu_are_those_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = written(tmp_path, "bf16").open(LAYER.name)
    items = torch.tensor([3, 0, 1, 7])
    copied = found.to("cuda")
    assert copied.shards[0].is_cuda
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 100))
    left = found.to("cuda")
    assert not left.shards[0].is_cuda
    for moved in (copied, left):
        selected = moved.select(items.cuda())
        assert selected.values.is_cuda
        assert torch.equal(selected.values.cpu(), found.select(items).values)


def test_a_cache_that_cannot_be_written_to_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = written(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(Path, "touch", refuse)
    assert made.open(LAYER.name).width == LAYER.width


def test_a_lock_of_a_pruned_folder_is_no_lock(tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    with lock(folder):
        folder.rename(tmp_path / "aside")
        with lock(folder), pytest.raises(CacheInUseError), lock(folder):
            pass

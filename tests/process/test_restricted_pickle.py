"""An old pickled .npy is read as data; anything that would run is refused and does not run."""

from __future__ import annotations

import builtins
import collections
import os
import pickle
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from legos.errors import DataError
from process.restricted_pickle import load_pickled_npy, restricted_loads


class Attack:
    """Unpickling this with the standard library calls ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def save(path: Path, value: Any) -> Path:
    np.save(path, np.array(value, dtype=object), allow_pickle=True)
    return path


def test_numpy_s_own_pickled_dict_is_read_as_it_was(tmp_path: Path) -> None:
    histories = np.empty(2, dtype=object)
    histories[:] = [[3, 1, 2], [5]]
    path = save(tmp_path / "data.npy", {"uid": np.array([0, 2]), "history": histories})
    value = load_pickled_npy(path)
    assert value["uid"].tolist() == [0, 2]
    assert value["uid"].dtype == np.int64
    assert value["history"].tolist() == [[3, 1, 2], [5]]


@pytest.mark.parametrize(
    "value",
    [
        {"a": [1, 2.5, None, True, b"x", "y"], "b": ({1, 2}, frozenset([3]), (4,))},
        np.arange(12, dtype=">i4").reshape(3, 4),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array(["ab", "c"]),
        np.zeros((0, 3), dtype=np.float32),
        np.array([True, False]),
    ],
    ids=["containers", "big-endian", "fortran", "text", "empty", "bool"],
)
@pytest.mark.parametrize("protocol", [3, 4])
def test_plain_data_survives(value: Any, protocol: int) -> None:
    read = restricted_loads(pickle.dumps(value, protocol=protocol), "here")
    if isinstance(value, np.ndarray):
        np.testing.assert_array_equal(read, value)
        assert read.dtype == value.dtype
    else:
        assert read == value


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.mkdir, "posix.mkdir"),
        (os.system, "posix.system"),
        (builtins.eval, "builtins.eval"),
        (builtins.getattr, "builtins.getattr"),
        (np.load, "numpy.load"),
        (collections.OrderedDict, "collections.OrderedDict"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_malicious_pickle_is_refused_by_name_and_nothing_runs(
    tmp_path: Path, function: Any, name: str
) -> None:
    victim = tmp_path / "victim"
    argument = f"mkdir {victim}" if function is os.system else str(victim)
    path = save(tmp_path / "data.npy", {"uid": Attack(function, argument)})
    with pytest.raises(DataError) as caught:
        load_pickled_npy(path)
    assert name in str(caught.value)
    assert str(path) in str(caught.value)
    assert not victim.exists()


def test_the_same_pickle_does_harm_when_read_the_usual_way(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    path = save(tmp_path / "data.npy", Attack(os.mkdir, str(victim)))
    np.load(path, allow_pickle=True)
    assert victim.exists()


def test_forged_array_state_cannot_reach_memory() -> None:
    """numpy's own __setstate__ would take these bytes for pointers to objects."""
    honest = pickle.dumps(np.array([1], dtype=np.int64), protocol=3)
    forged = honest.replace(b"X\x02\x00\x00\x00i8", b"X\x02\x00\x00\x00O8")
    assert forged != honest
    with pytest.raises(DataError, match="object made of bytes"):
        restricted_loads(forged, "here")


@pytest.mark.parametrize("length", [0, 1, 40, 130, 200])
def test_a_cut_file_is_an_error_that_names_it(tmp_path: Path, length: int) -> None:
    path = save(tmp_path / "data.npy", {"uid": np.arange(50)})
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError, match=r"data\.npy"):
        load_pickled_npy(path)


@pytest.mark.slow
def test_random_damage_never_gets_past_data_error() -> None:
    whole = pickle.dumps({"uid": np.arange(20), "history": [[1, 2], [3]]}, protocol=4)
    generator = np.random.default_rng(0)
    outcomes = set()
    for _ in range(2000):
        data = bytearray(whole)
        data[generator.integers(len(data))] = generator.integers(256)
        try:
            restricted_loads(bytes(data), "here")
            outcomes.add("read")
        except DataError:
            outcomes.add("refused")
    assert outcomes == {"read", "refused"}


def test_shared_references_are_not_unfolded() -> None:
    """Thirty lists, each twice in the next: a billion leaves if unfolded."""
    value: list[Any] = ["leaf"]
    for _ in range(30):
        value = [value, value]
    start = time.perf_counter()
    read = restricted_loads(pickle.dumps(value), "here")
    assert read[0] is read[1]
    assert time.perf_counter() - start < 1


def test_a_list_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(DataError, match="plain data"):
        restricted_loads(pickle.dumps(value), "here")


def test_a_plain_array_file_is_pointed_to_numpy(tmp_path: Path) -> None:
    np.save(tmp_path / "plain.npy", np.arange(3))
    with pytest.raises(DataError, match=r"plain\.npy.*numpy\.load"):
        load_pickled_npy(tmp_path / "plain.npy")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere\.npy"):
        load_pickled_npy(tmp_path / "nowhere.npy")


def test_a_text_file_is_no_npy(tmp_path: Path) -> None:
    (tmp_path / "data.npy").write_bytes(struct.pack("<I", 7) * 40)
    with pytest.raises(DataError, match=r"not a \.npy file"):
        load_pickled_npy(tmp_path / "data.npy")

"""Answers survive what ends a process; nobody writes beside somebody else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from legos.errors import ConfigError, DataError
from process.genre.prices import Price, price_of
from process.genre.store import TORN, Store
from process.genre.types import Answer, Rejected, Usage

ROOT = Path(__file__).parents[3]


def answer(name: str, **changes: Any) -> Answer:
    values: dict[str, Any] = {
        "hash": f"hash of {name}", "key": name, "scheme": "s", "version": 1, "source": "",
        "model": "m", "parameters": {}, "answer": {"text": f"ä {name}"}, "text": "{}",
        "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "seconds": 0.5,
        "time": "2026-01-01T00:00:00+00:00", "notes": [],
    }  # fmt: skip
    return values | changes  # type: ignore[return-value]


def rejected(name: str) -> Rejected:
    values: dict[str, Any] = {**answer(name), "reason": "no JSON object", "final": False}
    return {key: part for key, part in values.items() if key not in ("answer", "notes")}  # type: ignore[return-value]


def test_what_was_added_is_there_again(tmp_path: Path) -> None:
    with Store.open(tmp_path, "s") as store:
        store.add([answer("a"), answer("b", notes=["cut"])])
        store.reject([rejected("b"), rejected("c"), rejected("c")])
        during = Store.read(tmp_path, "s")
        assert "hash of a" in during
    with Store.open(tmp_path, "s") as store:
        assert "hash of a" in store
        assert "hash of c" not in store
        assert store["hash of b"] == answer("b", notes=["cut"])
        assert store.refused_hashes == {"hash of c"}
        counts = store.counts()
    assert (counts.answers, counts.quarantined, counts.notes) == (2, 1, 1)
    assert counts.usage == Usage(15, 10)
    assert counts.seconds == 2.5


def test_an_answer_is_never_there_twice(tmp_path: Path) -> None:
    with Store.open(tmp_path, "s") as store:
        store.add([answer("a")])
        for batch in ([answer("b"), answer("a")], [answer("c"), answer("c")]):
            with pytest.raises(DataError, match="is answered already"):
                store.add(batch)
        assert len(store) == 1
    assert len((tmp_path / "s.jsonl").read_text().splitlines()) == 1
    with pytest.raises(ValueError, match="reading only"):
        Store.read(tmp_path, "s").add([answer("d")])


@pytest.mark.slow
def test_wherever_the_last_line_is_torn_only_that_answer_is_lost(tmp_path: Path) -> None:
    whole = "".join(json.dumps(answer(n), ensure_ascii=False) + "\n" for n in "ab").encode()
    second = whole.index(b"\n") + 1
    for end in range(second, len(whole) + 1):
        folder = tmp_path / str(end)
        folder.mkdir()
        (folder / "s.jsonl").write_bytes(whole[:end])
        assert len(Store.read(folder, "s")) == (2 if end == len(whole) else 1)
        with Store.open(folder, "s") as store:
            complete = end >= len(whole) - 1  # only the line feed is missing
            assert len(store) == 1 + complete
            torn = [entry["reason"].startswith(TORN) for entry in store.quarantine()]
            assert torn == ([] if complete or end == second else [True])
            store.add([answer("c")] if complete else [answer("b"), answer("c")])
        assert [a["key"] for a in Store.read(folder, "s").answers()] == ["a", "b", "c"]


def test_a_torn_quarantine_is_repaired_too(tmp_path: Path) -> None:
    with Store.open(tmp_path, "s") as store:
        store.reject([rejected("a"), rejected("b")])
    path = tmp_path / "s.quarantine.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    with Store.open(tmp_path, "s") as store:
        assert store.refused_hashes == {"hash of a"}
        assert TORN in store.quarantine()[-1]["reason"]


def test_a_dropped_answer_is_gone_and_what_it_cost_still_counts(tmp_path: Path) -> None:
    with Store.open(tmp_path, "s") as store:
        store.add([answer("a"), answer("b")])
        store.drop(["hash of a"])
        assert "hash of a" not in store
        store.replace([answer("b", answer={"text": "new"}), answer("c")])
        with pytest.raises(KeyError):
            store.drop(["hash of a"])
    store = Store.read(tmp_path, "s")
    assert [a["answer"]["text"] for a in store.answers()] == ["new", "ä c"]
    assert store.counts().usage == Usage(12, 8)
    with Store.open(tmp_path, "s") as store:
        store.add([answer("a", answer={"text": "again"})])
    assert Store.read(tmp_path, "s")["hash of a"]["answer"] == {"text": "again"}


def test_half_an_emoji_is_replaced_when_written_and_when_read(tmp_path: Path) -> None:
    old = json.dumps(answer("a", answer={"text": "old \ud83d"}))  # as an escape
    (tmp_path / "s.jsonl").write_text(old + "\n")
    with Store.open(tmp_path, "s") as store:
        store.add([answer("b", answer={"text": "new \udfff, whole \ud83d\ude00"})])
    texts = [a["answer"]["text"] for a in Store.read(tmp_path, "s").answers()]
    assert texts == ["old \ufffd", "new \ufffd, whole 😀"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    for line in ("not JSON", '{"hash": "x"}', "[]"):
        (tmp_path / "s.jsonl").write_text(json.dumps(answer("a")) + f"\n{line}\n")
        with pytest.raises(DataError, match=r"s\.jsonl:2: "):
            Store.read(tmp_path, "s")


@pytest.mark.multiprocess
def test_two_processes_cannot_write_one_store(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from process.genre.store import Store\n"
        "with Store.open(Path(sys.argv[1]), sys.argv[2]) as store: print(len(store))"
    )

    def other(scheme: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code, str(tmp_path), scheme],
            capture_output=True, text=True, cwd=ROOT, env={**os.environ}, check=False,
        )  # fmt: skip

    with Store.open(tmp_path, "s") as store:
        store.add([answer("a")])
        refused = other("s")
        assert refused.returncode != 0
        assert "another process is writing this store" in refused.stderr
        assert other("another").stdout == "0\n"
    assert other("s").stdout == "1\n"


def test_a_full_disk_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.write, []

    def half(file: int, data: bytes) -> int:
        calls.append(file)
        if len(calls) > 1:
            raise OSError(28, "No space left on device")
        return real(file, data[:10])

    with Store.open(tmp_path, "s") as store:
        store.add([answer("a")])
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space"):
            store.add([answer("b")])
        monkeypatch.undo()
        assert "hash of b" not in store
        store.add([answer("b")])
    assert len(Store.read(tmp_path, "s")) == 2


def test_prices() -> None:
    assert Price(1, 3).cost(Usage(2_000_000, 1_000_000)) == 5
    assert price_of("smollm2") == Price(0, 0)
    assert price_of("no such model") is None
    assert price_of("no such model", "0.5,1") == Price(0.5, 1)
    for wrong in ("1", "1,2,3", "a,b", "-1,2", "nan,1"):
        with pytest.raises(ConfigError, match="PROMPT,COMPLETION"):
            price_of("m", wrong)

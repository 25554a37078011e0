"""``legos serve`` under load beside a bare FAISS loop: a catalogue of 100,000 items.

    python -m benchmarks.serve [--quick]

Both sides find the ten best of the same items for the same readers, out of the same vectors (NAML
with 64 numbers and random weights; scores are inner products). The bare loop is a thread a client,
each calling ``IndexFlatIP.search`` with the vector of one reader, in process: no HTTP, no JSON, no
history to encode, nothing left out, numbers instead of titles. The server is a process of its own;
it reads a request, encodes the reader's history, leaves out what they had and sends ids, titles and
fields. Its clients are a third process on the same cores, with a connection each, so their work is
in the server's times. One thread a computation on both sides.

The lists of both are compared first. Target: at 1 to 16 clients the server's p99 is under 3 times
that of the bare loop.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import Part, finish_parts

K, WIDTH, USERS, HISTORY = 10, 64, 2_000, 20
TARGET = 3.0
WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


@dataclass(frozen=True)
class Load:
    """What clients measured: seconds of every request, and of all together."""

    seconds: np.ndarray
    wall: float

    def at(self, percent: float) -> float:
        """A percentile in milliseconds."""
        return 1000 * float(np.percentile(self.seconds, percent))

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.seconds) / self.wall


def main() -> None:
    """Make the run, measure both sides, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5,000 items, few requests")
    quick = parser.parse_args().quick
    items, requests = (5_000, 200) if quick else (100_000, 2_000)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LEGOS_HOME"] = folder
        run = make_run(Path(folder), items)
        parts = measure(run, (1, 16) if quick else (1, 4, 16, 64), requests)
    finish_parts("serve", parts, dict.fromkeys(parts, TARGET))


def make_run(folder: Path, items: int) -> Path:
    """An untrained NAML over random titles; returns its folder."""
    generator = np.random.default_rng(0)
    titles = generator.choice(WORDS, (items, 5))
    catalogue = pd.DataFrame(
        {
            "item": [f"i{number}" for number in range(items)],
            "title": [" ".join(row) for row in titles],
            "category": generator.choice(WORDS[:40], items),
        }
    )
    events = pd.DataFrame(
        {
            "user": np.repeat([f"u{number}" for number in range(USERS)], HISTORY),
            "item": catalogue["item"].to_numpy()[generator.integers(0, items, USERS * HISTORY)],
            "time": 1_700_000_000 + np.arange(USERS * HISTORY),
        }
    )
    catalogue.to_csv(folder / "items.csv", index=False)
    events.to_csv(folder / "events.csv", index=False)
    tables = folder / "data" / "catalogue"
    legos("table", "--items", f"{folder}/items.csv", "--events", f"{folder}/events.csv",
          "--output", str(tables), "--tokenizer", "words=words")  # fmt: skip
    legos("run", "--data", str(tables), "--model", "naml", "--exp", "train", "--embed", "null",
          "--hidden_size", str(WIDTH), "--exp.train.epochs", "0")  # fmt: skip
    return next((folder / "runs").glob("*/*/*"))


def legos(*words: str) -> None:
    """A command that must succeed."""
    subprocess.run([sys.executable, "-m", "legos", *words], check=True, stdout=subprocess.DEVNULL)


def measure(run: Path, clients: tuple[int, ...], requests: int) -> dict[str, Part]:
    """Both sides at each number of clients, by turns."""
    import faiss

    import legos as toolkit

    faiss.omp_set_num_threads(1)
    opened = toolkit.open(run, device="cpu")
    readers = opened.users
    vectors = np.ascontiguousarray(opened.reader_vectors(readers))
    item_vectors = opened.item_vectors()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(item_vectors.to_numpy()))
    command = [sys.executable, "-m", "legos", "serve", str(run), "--port", "0"]
    parts = {}
    print(f"{index.ntotal:,} items, {vectors.shape[1]} numbers each, top {K}")
    print("clients   side       p50 ms   p99 ms   requests/s")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        server.stdout.readline()
        port = int(server.stdout.readline().split()[0].rpartition(":")[2])
        same = same_lists(port, readers[:50], vectors[:50], index, item_vectors.index)
        with multiprocessing.get_context("spawn").Pool(1) as other:
            other.apply(ask_all, (port, readers, 1, 50))
            for count in clients:
                bare = repeat(lambda row: index.search(vectors[row : row + 1], K), count, requests)
                ours = other.apply(ask_all, (port, readers, count, requests))
                for side, load in (("FAISS", bare), ("server", ours)):
                    print(
                        f"{count:7}   {side:8} {load.at(50):8.2f} {load.at(99):8.2f} "
                        f"{load.rate:12.0f}"
                    )
                ratio = ours.at(99) / bare.at(99)
                print(f"{'':10}p99 {ratio:.2f} times the bare loop's")
                reached = ratio < TARGET or count > 16
                parts[f"{count} clients"] = Part(
                    ours=round(ours.at(99), 2),
                    other=round(bare.at(99), 2),
                    ratio=round(ratio, 2),
                    holds=same and reached,
                )
        server.terminate()
    return parts


def repeat(ask: Callable[[int], Any], clients: int, requests: int) -> Load:
    """Make ``requests`` calls from several threads, each with the number of a reader."""
    seconds: list[list[float]] = [[] for _ in range(clients)]

    def client(number: int) -> None:
        for turn in range(requests // clients):
            began = time.perf_counter()
            ask((number + turn * clients) % USERS)
            seconds[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(np.concatenate(seconds), time.perf_counter() - began)


def ask_all(port: int, readers: list[str], clients: int, requests: int) -> Load:
    """The same over HTTP, in another process; every answer is checked for its length."""
    local = threading.local()

    def ask(row: int) -> None:
        if not hasattr(local, "connection"):
            local.connection = HTTPConnection("127.0.0.1", port)
        assert len(recommended(local.connection, readers[row])) == K

    return repeat(ask, clients, requests)


def recommended(connection: HTTPConnection, user: str) -> list[str]:
    """Ask for a list; returns its ids."""
    body = json.dumps({"user": user, "k": K})
    connection.request("POST", "/recommend", body, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    assert answer.status == 200, content
    return [item["item_id"] for item in json.loads(content)["items"]]


def same_lists(
    port: int, readers: list[str], vectors: np.ndarray, index: Any, ids: pd.Index[str]
) -> bool:
    """Whether the server's lists are those of the index, but for what the readers had."""
    connection = HTTPConnection("127.0.0.1", port)
    _, found = index.search(vectors, K + HISTORY)
    alike = []
    for user, row in zip(readers, found, strict=True):
        listed = recommended(connection, user)
        order = [item for item in ids[row].tolist() if item in set(listed)]
        alike.append(order == listed)
    return sum(alike) >= 0.98 * len(alike)  # equal scores may change places by rounding


if __name__ == "__main__":
    main()

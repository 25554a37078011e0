"""``legos serve`` under load beside a bare FAISS loop: a catalogue of 100,000 items.

    python -m benchmarks.serve [--quick]

Three rows at each number of clients, one after the other:

- FAISS: a thread a client, each calling ``IndexFlatIP.search`` with the vector of one reader in
  a loop, in this process: no HTTP, no JSON, no history to encode, nothing left out, numbers instead
  of titles.
- server: ``legos serve`` as a process of its own. It reads a request, encodes the reader's history,
  leaves out what they had and sends ids, titles and fields. The vectors are the same (NAML with 64
  numbers and random weights; scores are inner products), and the lists of both are compared first.
- bare HTTP: uvicorn as ``legos serve`` starts it, with an application that reads the body and sends
  an answer of the same length from memory: what HTTP alone costs here.

Clients of the last two are one more process on the same cores, with a connection each, so their
work is in the times. One thread a computation on all sides. Target: the server's p99 is under 3
times that of the FAISS loop at 1, 4, 16 and 64 clients.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
    parser.add_argument("--bare-http", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.bare_http:
        return bare_http()
    quick = args.quick
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
    """All sides at each number of clients, by turns."""
    import faiss

    import legos as toolkit

    faiss.omp_set_num_threads(1)
    opened = toolkit.open(run, device="cpu")
    readers = opened.users
    vectors = np.ascontiguousarray(opened.reader_vectors(readers))
    item_vectors = opened.item_vectors()
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(np.ascontiguousarray(item_vectors.to_numpy()))
    parts = {}
    print(
        f"{index.ntotal:,} items, {vectors.shape[1]} numbers each, top {K}; {os.cpu_count()} cores"
    )
    with (
        started([sys.executable, "-m", "legos", "serve", str(run), "--port", "0"]) as server,
        started([sys.executable, "-m", "benchmarks.serve", "--bare-http"]) as hello,
        multiprocessing.get_context("spawn").Pool(1) as other,
    ):
        same = same_lists(server, readers[:50], vectors[:50], index, item_vectors.index)
        other.apply(ask_all, (server, readers, 1, 50))
        print("clients   side        p50 ms   p99 ms   requests/s")
        for count in clients:
            bare = repeat(lambda row: index.search(vectors[row : row + 1], K), count, requests)
            ours = other.apply(ask_all, (server, readers, count, requests))
            http = other.apply(ask_all, (hello, readers, count, requests))
            for side, load in (("FAISS", bare), ("server", ours), ("bare HTTP", http)):
                print(
                    f"{count:7}   {side:9} {load.at(50):8.2f} {load.at(99):8.2f} {load.rate:12.0f}"
                )
            ratio = ours.at(99) / bare.at(99)
            print(f"{'':10}p99 {ratio:.2f} times the FAISS loop's")
            parts[f"{count} clients"] = Part(
                ours=round(ours.at(99), 2),
                other=round(bare.at(99), 2),
                ratio=round(ratio, 2),
                holds=same and ratio < TARGET,
            )
    return parts


@contextmanager
def started(command: list[str]) -> Iterator[int]:
    """A server as a process, ended with the block; gives its port.

    When a request fails, what the server said last and how it ended are printed.
    """
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        try:
            for line in server.stdout:
                if "http://" in line:
                    break
            port = int(line.split()[0].rpartition(":")[2])
            yield port
        except BaseException:
            time.sleep(1)
            log.seek(0)
            ended = server.poll()
            print(
                f"{' '.join(command[2:4])}: "
                + ("still runs" if ended is None else f"ended with exit code {ended}"),
                *log.readlines()[-20:],
                file=sys.stderr,
            )
            raise
        finally:
            server.terminate()


def bare_http() -> None:
    """Serve one answer from memory, with the settings of ``legos serve``."""
    import uvicorn

    from legos.server.run import listen

    item = {"item_id": "i12345", "title": "batal batal batal batal batal", "labels": ["batal"]}
    answer = json.dumps({"items": [{**item, "score": 0.123456789012345678}] * K, "run": "x" * 30})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(answer))]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive())["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.encode()})

    with listen("127.0.0.1", 0) as listening:
        print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        config = uvicorn.Config(app, lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


def repeat(ask: Callable[[int], Any], clients: int, requests: int) -> Load:
    """Make ``requests`` calls from several threads, each with the number of a reader."""
    seconds: list[list[float]] = [[] for _ in range(clients)]

    def client(number: int) -> None:
        for row in turns(number, clients, requests):
            began = time.perf_counter()
            ask(row)
            seconds[number].append(time.perf_counter() - began)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Load(np.concatenate(seconds), time.perf_counter() - began)


def turns(client: int, clients: int, requests: int) -> list[int]:
    """The numbers of the readers that a client asks for."""
    return [(client + turn * clients) % USERS for turn in range(requests // clients)]


def ask_all(port: int, readers: list[str], clients: int, requests: int) -> Load:
    """The same over HTTP, in another process, without threads; every answer is looked at after."""
    seconds: list[float] = []
    answers: list[bytes] = []

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for row in turns(number, clients, requests):
            began = time.perf_counter()
            writer.write(as_request(readers[row]))
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            content = await reader.readexactly(length)
            seconds.append(time.perf_counter() - began)
            assert head.startswith(b"HTTP/1.1 200"), content
            answers.append(content)
        writer.close()

    async def everyone() -> None:
        await asyncio.gather(*map(client, range(clients)))

    began = time.perf_counter()
    asyncio.run(everyone())
    wall = time.perf_counter() - began
    assert all(len(json.loads(answer)["items"]) == K for answer in answers)
    return Load(np.array(seconds), wall)


def as_request(user: str) -> bytes:
    """A request for a list."""
    body = json.dumps({"user": user, "k": K})
    return (
        "POST /recommend HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


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

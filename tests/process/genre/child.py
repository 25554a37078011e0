"""A run in a process of its own, to be killed: python -m tests.process.genre.child URL FOLDER N."""

from __future__ import annotations

import sys
from pathlib import Path

from process.genre.client import Client
from process.genre.endpoint import Endpoint
from process.genre.run import run
from process.genre.store import Store
from tests.process.genre.asking import some_requests


def main() -> None:
    """Ask N requests, four at a time; the summary's ``stopped`` on the last line."""
    url, folder, count = sys.argv[1:]
    with Store.open(Path(folder), "test") as store:
        client = Client(Endpoint(url, concurrency=4, retries=8))
        print(run(some_requests(int(count)), client, store).stopped)


if __name__ == "__main__":
    main()

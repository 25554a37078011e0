"""One server of a fake run for the tests that change nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi", reason="needs FastAPI: pip install -r requirements-serve.txt")
pytest.importorskip("uvicorn", reason="needs uvicorn: pip install -r requirements-serve.txt")

from tests.server.fake import FakeRun
from tests.server.serving import Client, make_server, serving


@pytest.fixture(scope="package")
def client() -> Iterator[Client]:
    with serving(make_server(FakeRun())) as opened:
        yield opened

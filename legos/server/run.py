"""Starting and ending a server: a run is opened, an address is taken, signals end it."""

from __future__ import annotations

import errno
import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import uvicorn

import legos
from legos.errors import EXIT_INTERRUPTED, ConfigError
from legos.recommend.approximate import use_index
from legos.runs.find import find_run
from legos.server.app import OPEN_PATHS, Server
from legos.server.guard import is_loopback, rules
from legos.server.schemas import Candidates
from legos.server.served import Opening, Served, Shelf

KEY = "LEGOS_API_KEY"
_SHORT_KEY = 16  # characters
_GRACE = 30  # seconds that requests under way get at the end
_CONNECTIONS = 2_000
_TRIED = 100  # ports that are looked at for a free one


@dataclass(frozen=True)
class Options:
    """What a command line says of a server; ``legos serve --help`` tells what each means."""

    run: str
    data: str | None = None
    device: str = "auto"
    host: str = "127.0.0.1"
    port: int = 8000
    names: tuple[str, ...] = ()
    exact_up_to: int = 200_000
    watch: float | None = None
    queue: int = 512
    batch: int = 32
    wait: float = 0.0
    timeout: float = 30.0
    max_new_items: int = 10_000


def serve(options: Options) -> int:
    """Serve until a signal comes; returns the exit code: 0 after SIGTERM, 130 after Ctrl-C.

    Raises:
        LegosError: the run cannot be opened, the address is not free, or the key is no key.
    """
    key = read_key()
    with listen(options.host, options.port) as listening:

        def find() -> Path:
            return find_run(options.run, trained=True)

        opening = Opening(find, lambda folder: open_served(options, folder))
        shelf = Shelf(opening.open(find()), opening)
        server = Server(
            shelf,
            rules(key=key, host=options.host, names=options.names, open_paths=OPEN_PATHS),
            queue=options.queue,
            batch=options.batch,
            wait=options.wait,
            timeout=options.timeout,
            watch=options.watch,
            max_new_items=options.max_new_items,
        )
        print(_greeting(shelf.current, listening, has_key=key is not None), flush=True)
        return run_until_signal(server, listening)


def read_key() -> str | None:
    """The API key out of the environment; None: nobody needs one.

    Raises:
        ConfigError: it is empty, or no header can hold it.
    """
    key = os.environ.get(KEY)
    if key is None:
        return None
    if not key or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(
            f"{KEY}: empty, or with spaces or letters that no header can hold; expected ASCII "
            "letters, digits and signs. To serve without a key: unset it"
        )
    if len(key) < _SHORT_KEY:
        print(f"warning: {KEY} has fewer than {_SHORT_KEY} characters, and can be guessed")
    return key


def listen(host: str, port: int) -> socket.socket:
    """A socket that is bound to an address.

    Raises:
        ConfigError: the address is in use, not this machine's, or not allowed.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return _bound(family, (str(address[0]), port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            free = _next_free(host, port)
            told = f"; {free} is free: --port {free}" if free else ""
            raise ConfigError(f"port {port} of {host} is in use{told}") from None
        if error.errno == errno.EACCES:
            raise ConfigError(f"port {port}: ports below 1024 need root; use --port 8000") from None
        if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
            raise ConfigError(
                f"--host {host}: no address of this machine; 127.0.0.1 is for this machine alone, "
                "0.0.0.0 for every network it is in"
            ) from None
        raise


def _bound(family: int, address: tuple[str, int]) -> socket.socket:
    # asyncio turns Nagle's algorithm off, which costs 40 ms an answer, where it reads IPPROTO_TCP
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(2048)  # also tells whether another server has it
    except OSError:
        listening.close()
        raise
    return listening


def _next_free(host: str, port: int) -> int | None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for other in range(port + 1, min(port + _TRIED, 65536)):
        try:
            _bound(family, (host, other)).close()
        except OSError:
            continue
        return other
    return None


def open_served(options: Options, folder: Path) -> Served:
    """Open a run, choose how its lists are found and answer once, so that all is in memory.

    Raises:
        LegosError: it cannot be opened.
        ModuleNotFoundError: the catalogue asks for an index and FAISS is not installed.
    """
    run = legos.open(folder, data=options.data, device=options.device)
    candidates = Candidates(kind="exact")
    model = run.catalogue.model
    if int(model.offered.sum()) > options.exact_up_to and model.similarity:
        found = use_index(run)
        candidates = Candidates(
            kind="faiss", index=found.index, recall=found.recall, sample=found.sample
        )
    served = Served(run, candidates)
    if run.users:
        run.recommend(run.users[0], k=1)
    return served


def _greeting(served: Served, listening: socket.socket, *, has_key: bool) -> str:
    host, port = listening.getsockname()[:2]
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    lists = "lists exact"
    if served.candidates.kind == "faiss":
        lists = f"lists by {served.candidates.index}, recall {served.candidates.recall:.3f}"
    lines = [
        f"{served.run.name}: {len(served):,} items, {len(served.users.ids):,} users, {lists}",
        f"{address}       the web page",
        f"{address}/docs  the API; Ctrl-C stops the server",
    ]
    if not is_loopback(host) and not has_key:
        lines.append(
            f"warning: everyone who can reach {host} may send requests and add items; set {KEY} to "
            "require a key"
        )
    return "\n".join(lines)


def run_until_signal(server: Server, listening: socket.socket) -> int:
    """Answer requests until SIGTERM or SIGINT; requests under way are answered before the end."""
    caught = list[int]()
    config = uvicorn.Config(
        server.app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_graceful_shutdown=_GRACE,
    )
    signals = (signal.SIGINT, signal.SIGTERM)  # uvicorn raises them again once it has ended
    before = {
        each: signal.signal(each, lambda number, _: caught.append(number)) for each in signals
    }
    try:
        uvicorn.Server(config).run(sockets=[listening])
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    return EXIT_INTERRUPTED if signal.SIGINT in caught else 0

"""The routes: a request is checked, put into the queue of the model, and answered as JSON."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from starlette.exceptions import HTTPException

from legos import __version__
from legos.errors import LegosError
from legos.server.guard import Guard, Rules
from legos.server.new_items import refuse_too_many, rows_of
from legos.server.refusals import Refusal, refuse, show
from legos.server.route import Route
from legos.server.schemas import (
    Added,
    AddRequest,
    Fault,
    Found,
    Health,
    Id,
    ItemList,
    Reader,
    Reason,
    Reasons,
    ReasonsRequest,
    Recommended,
    RecommendRequest,
    Refused,
    Reload,
    ReloadRequest,
    ScoredItem,
    ScoreRequest,
    Scores,
    SimilarRequest,
)
from legos.server.served import Served, Shelf
from legos.server.telemetry import Telemetry
from legos.server.work import ListOf, Work

_log = logging.getLogger("legos.server")
_STATIC = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
OPEN_PATHS = frozenset({*_FILES, "/health", "/openapi.json"})
"""Paths that need no key: the page without its data, and the probe of a load balancer."""
_SWITCH = 0.0005  # seconds that opening a run keeps Python from answering requests; else 0.005
_TOLD = 5  # unknown ids that a refusal names
_ABOUT = """Recommendations of one trained run. Ids are those of the raw data. A request that cannot
be answered gets a 4xx whose `error` says in one line what was found and what was expected."""

Limit = Annotated[int, Query(ge=1, le=50)]
Words = Annotated[str, Query(max_length=200)]


class Server:
    """The application and its state.

    Args:
        shelf: the run that is served.
        rules: what requests are let through.
        queue, batch, wait, timeout: see :class:`legos.server.work.Work`.
        watch: seconds between two looks for a newer run; None: only ``POST /reload`` looks.
        max_new_items: items that may be added in all.
    """

    def __init__(
        self,
        shelf: Shelf,
        rules: Rules,
        *,
        queue: int = 512,
        batch: int = 32,
        wait: float = 0.0,
        timeout: float = 30.0,
        watch: float | None = None,
        max_new_items: int = 10_000,
    ) -> None:
        self.shelf, self.watch, self.max_new_items = shelf, watch, max_new_items
        self.telemetry = Telemetry()
        self.work = Work(
            shelf, self.telemetry, queue=queue, batch=batch, wait=wait, timeout=timeout
        )
        self.telemetry.watch("queue", "Waiting requests", lambda: self.work.waiting)
        self.telemetry.watch("items", "Number of recommendable items", lambda: len(shelf.current))
        self.telemetry.watch("new_items", "Items added", lambda: len(shelf.current.added))
        self._reloading = asyncio.Lock()
        self.api = FastAPI(
            title="legos",
            version=__version__,
            description=_ABOUT,
            docs_url=None,
            redoc_url=None,
            lifespan=self._lifespan,
            responses={"4XX": {"model": Refused}, "503": {"model": Refused}},
        )
        self.api.router.route_class = Route
        self.api.add_exception_handler(HTTPException, _no_route)
        self._add_routes()
        paths = [route.path for route in self.api.routes if hasattr(route, "path")]
        self.app = Guard(self.api, rules, self.telemetry, paths)

    @asynccontextmanager
    async def _lifespan(self, _: FastAPI) -> AsyncIterator[None]:
        self.work.start()
        watcher = asyncio.create_task(self._watch()) if self.watch else None
        yield
        if watcher:
            watcher.cancel()
        await self.work.stop()

    async def _watch(self) -> None:
        """Look for a newer run at intervals; a run that cannot be opened is tried only once."""
        failed: Path | None = None
        while True:
            await asyncio.sleep(self.watch or 0)
            with suppress(LegosError):
                newest = await asyncio.to_thread(self.shelf.opening.find)
                if newest in (self.shelf.current.run.folder, failed):
                    continue
                failed = newest
                await self.reload()

    async def reload(self) -> Reload:
        """Open the newest run beside the old one, then replace the old one.

        Raises:
            LegosError: it cannot be opened; the old one goes on.
        """
        async with self._reloading:
            interval = sys.getswitchinterval()
            sys.setswitchinterval(_SWITCH)
            try:
                newer = await asyncio.to_thread(self.shelf.open_newest)
            except LegosError as error:
                self.telemetry.reloads.labels("failed").inc()
                _log.warning(
                    "no newer run: %s; still serving %s", error, self.shelf.current.run.name
                )
                raise
            finally:
                sys.setswitchinterval(interval)
            done = await self.work.run(lambda _: self.shelf.replace(newer))
            self.telemetry.reloads.labels("ok").inc()
            _log.warning("now serving %s", newer.run.name)
            return done

    def _add_routes(self) -> None:
        post, get = self.api.post, self.api.get
        post("/recommend", summary="Recommend items", response_model=Recommended)(self._recommend)
        post("/similar", summary="Similar items")(self._similar)
        post("/reasons", summary="Explain a score by the clicks of the history")(self._reasons)
        post("/score", summary="Score items for users")(self._score)
        post("/items", summary="Add new items by their content", status_code=201)(self._add)
        get("/items", summary="Search items by id or title")(self._find_items)
        get("/users", summary="Search users by id")(self._find_users)
        get("/history", summary="History of a user, newest first")(self._history)
        post("/reload", summary="Reload the newest run")(self._reload)
        get(
            "/health", summary="Information about the served run", response_model_exclude_none=True
        )(self._health)
        get("/metrics", summary="Metrics for Prometheus", response_class=Response)(self._metrics)
        for path, (name, kind) in _FILES.items():
            get(path, include_in_schema=False)(_file(name, kind))

    async def _recommend(self, asked: RecommendRequest) -> Response:
        served = self._check_reader(asked)
        listed = await self.work.recommend(ListOf(asked.key, asked.k, asked.exclude_seen))
        found = _list(served, listed.ids, listed.scores)
        found = Recommended(items=found.items, run=found.run, notice=listed.notice)
        body = found.model_dump_json()  # FastAPI would validate it again: 0.5 ms
        return Response(body, media_type="application/json")

    async def _similar(self, asked: SimilarRequest) -> ItemList:
        self._check_items("item", [asked.item])

        def similar(served: Served) -> ItemList:
            found = served.run.similar(asked.item, asked.k)
            return _list(served, found["item_id"].tolist(), found["score"].tolist())

        return await self.work.run(similar)

    async def _reasons(self, asked: ReasonsRequest) -> Reasons:
        self._check_reader(asked)
        self._check_items("item", [asked.item])

        def reasons(served: Served) -> Reasons:
            found = served.run.reasons(asked.item, asked.user, history=asked.history)
            told = [
                Reason(**vars(served.item(item)), share=share)
                for item, share in zip(found["item_id"], found["share"].tolist(), strict=True)
            ]
            return Reasons(reasons=told, run=served.run.name)

        return await self.work.run(reasons)

    async def _score(self, asked: ScoreRequest) -> Scores:
        self._check_users("users", asked.users)
        self._check_items("items", asked.items)

        def score(served: Served) -> Scores:
            scores = served.run.score(asked.users, asked.items)
            return Scores(scores=scores.to_numpy().tolist(), run=served.run.name)

        return await self.work.run(score)

    async def _add(self, asked: AddRequest) -> Added:
        def add(served: Served) -> Added:
            rows = rows_of(served, asked.items)
            refuse_too_many(served, len(rows), self.max_new_items)
            return Added(added=served.add(rows), run=served.run.name)

        return await self.work.run(add)

    async def _find_items(self, query: Words = "", limit: Limit = 10) -> Found:
        return Found(items=self.shelf.current.search(query, limit))

    async def _find_users(self, query: Words = "", limit: Limit = 10) -> Found:
        users = self.shelf.current.users
        return Found(users=[users.ids[row] for row in users.search(query, limit)])

    async def _history(
        self, user: Annotated[Id, Query()], limit: Annotated[int, Query(ge=1, le=1_000)] = 50
    ) -> Found:
        self._check_users("user", [user])

        def history(served: Served) -> Found:
            items = served.run.history(user)["item_id"].tolist()
            return Found(items=[served.item(item) for item in items[::-1][:limit]])

        return await self.work.run(history)

    async def _reload(self, _: ReloadRequest) -> Reload:
        try:
            return await self.reload()
        except LegosError as error:
            message = f"{error}; still serving {self.shelf.current.run.name}"
            raise Refusal(409, message) from None

    async def _health(self, request: Request) -> Health:
        if not request.scope.get("legos.has_key", True):
            return Health(status="ok")
        served = self.shelf.current
        return Health(
            status="ok",
            run=served.run.name,
            model=served.run.config.model.name,
            items=len(served),
            users=len(served.users.ids),
            new_items=len(served.added),
            fields=served.fields,
            since=served.since,
            queue=self.work.waiting,
            candidates=served.candidates,
            reload=self.shelf.reload,
        )

    async def _metrics(self) -> Response:
        return Response(self.telemetry.text(), media_type="text/plain; version=0.0.4")

    def _check_reader(self, asked: Reader) -> Served:
        if asked.user is not None:
            self._check_users("user", [asked.user])
        else:
            self._check_items("history", asked.history or [])
        return self.shelf.current

    def _check_users(self, name: str, users: Sequence[str]) -> None:
        known = self.shelf.current.users
        _refuse_unknown(name, "user", users, known.__contains__, known.nearest)

    def _check_items(self, name: str, items: Sequence[str]) -> None:
        served = self.shelf.current
        _refuse_unknown(name, "item", items, served.has_item, served.nearest_items)


def _refuse_unknown(
    field: str,
    kind: str,
    ids: Sequence[str],
    known: Callable[[str], bool],
    nearest: Callable[[str], list[str]],
) -> None:
    """Refuse unknown ids; ``field`` is the field of the request."""
    faults = [
        Fault(
            field=f"{field}.{place}" if field in ("users", "items", "history") else field,
            found=show(name),
            expected=f"the id of {'an' if kind == 'item' else 'a'} {kind}",
            nearest=nearest(name),
        )
        for place, name in enumerate(ids)
        if not known(name)
    ]
    if faults:
        raise refuse(404, *faults[:_TOLD])


def _list(served: Served, ids: Sequence[str], scores: Sequence[float]) -> ItemList:
    items = [
        ScoredItem(**vars(served.item(item)), score=score)
        for item, score in zip(ids, scores, strict=True)
    ]
    return ItemList(items=items, run=served.run.name)


def _file(name: str, kind: str) -> Callable[[], Any]:
    content = (_STATIC / name).read_bytes()

    async def send() -> Response:
        return Response(content, media_type=kind)

    return send


async def _no_route(request: Request, error: Exception) -> Response:
    """Answer unknown paths and methods: 404 and 405, in the form of all refusals."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if status == 405:
        return Refusal(405, f"{request.url.path}: found {request.method}; see /docs").response()
    if status == 404:
        return Refusal(404, f"found {request.url.path[:100]}; see /docs").response()
    return Refusal(status, str(getattr(error, "detail", error))).response()

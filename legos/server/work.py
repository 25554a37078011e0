"""A queue with one thread that runs the model; requests that arrive meanwhile form a batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

from legos.server.refusals import Refusal
from legos.server.served import Served, Shelf
from legos.server.telemetry import Telemetry

if TYPE_CHECKING:
    from legos.recommend.lists import Listed

Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class ListOf:
    """A request for a list; requests of one batch are answered together."""

    reader: str | list[str]
    k: int
    exclude_seen: bool


_Task = ListOf | Callable[[Served], Any]


@dataclass(eq=False)
class _Waiting:
    task: _Task
    answer: asyncio.Future[Any] = field(default_factory=lambda: asyncio.Future())


class Work:
    """A bounded queue in front of the model.

    Args:
        shelf: whose current run answers.
        telemetry: told of batches.
        queue: requests that may wait; more are refused with 503.
        batch: lists that are found together at most.
        wait: seconds that a batch waits for more once it has one.
        timeout: seconds after which a request is given up with 504.
    """

    def __init__(
        self,
        shelf: Shelf,
        telemetry: Telemetry,
        *,
        queue: int,
        batch: int,
        wait: float,
        timeout: float,
    ) -> None:
        self.shelf, self.telemetry = shelf, telemetry
        self.batch, self.wait, self.timeout = batch, wait, timeout
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue(queue)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start answering; called in the event loop."""
        self._loop = asyncio.create_task(self._answer_all())

    async def stop(self) -> None:
        """Stop once all waiting requests are answered."""
        await self._queue.join()
        if self._loop is not None:
            self._loop.cancel()
        self._thread.shutdown()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return self._queue.qsize()

    async def recommend(self, asked: ListOf) -> Listed:
        """Find a list in the next batch."""
        return cast("Listed", await self._put(asked))

    async def run(self, function: Callable[[Served], Result]) -> Result:
        """Call a function with the current run, between batches."""
        return cast(Result, await self._put(function))

    async def _put(self, task: _Task) -> Any:
        waiting = _Waiting(task)
        try:
            self._queue.put_nowait(waiting)
        except asyncio.QueueFull:
            message = f"{self._queue.maxsize} requests are waiting; try again later"
            raise Refusal(503, message, retry_after=1) from None
        try:
            return await asyncio.wait_for(waiting.answer, self.timeout)
        except TimeoutError:
            message = f"no answer within {self.timeout:g} s; request less or try again later"
            raise Refusal(504, message) from None

    async def _answer_all(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            batch = await self._collect()
            live = [each for each in batch if not each.answer.done()]  # done: given up
            tasks = [each.task for each in live]
            answers = await loop.run_in_executor(self._thread, self._answer, tasks)
            for each, answer in zip(live, answers, strict=True):
                if each.answer.done():
                    continue
                if isinstance(answer, Exception):
                    each.answer.set_exception(answer)
                else:
                    each.answer.set_result(answer)
            for _ in batch:
                self._queue.task_done()

    async def _collect(self) -> list[_Waiting]:
        """The next requests: all that wait, up to a batch; a single one waits for others."""
        batch = [await self._queue.get()]
        end = time.monotonic() + self.wait
        while len(batch) < self.batch:
            try:
                batch.append(self._queue.get_nowait())
            except asyncio.QueueEmpty:
                left = end - time.monotonic()
                if left <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), left))
                except TimeoutError:
                    break
        return batch

    def _answer(self, tasks: list[_Task]) -> list[Any]:
        """The answers to some tasks, in order; an exception that a task raises is its answer."""
        lists = [task for task in tasks if isinstance(task, ListOf)]
        if lists:
            self.telemetry.batch_sizes.observe(len(lists))
        found = iter(_lists(self.shelf.current, lists))
        return [next(found) if isinstance(task, ListOf) else self._attempt(task) for task in tasks]

    def _attempt(self, function: Callable[[Served], Any]) -> Any:
        try:
            return function(self.shelf.current)
        except Exception as error:
            return error


def _lists(served: Served, asked: list[ListOf]) -> list[Any]:
    """Return a list or an exception for each request."""
    answers: dict[ListOf, Any] = {}
    for exclude_seen in (True, False):
        group = [each for each in asked if each.exclude_seen == exclude_seen]
        if not group:
            continue
        readers, most = [each.reader for each in group], max(each.k for each in group)
        try:
            found = served.run.best_ids(readers, most, exclude_seen=exclude_seen)
        except Exception as error:
            if len(group) == 1:
                answers[group[0]] = error
            else:  # which of them it was, they find out one by one
                answers |= {each: _lists(served, [each])[0] for each in group}
            continue
        for each, whole in zip(group, found, strict=True):
            ids, scores = whole.ids[: each.k], whole.scores[: each.k]
            answers[each] = whole._replace(ids=ids, scores=scores)
    return [answers[each] for each in asked]

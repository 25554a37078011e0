"""The loop: every request that has no answer yet is asked, and answers are stored as they come.

An answer is on disk before it counts. Whatever ends a run (Ctrl-C, a budget, kill -9), the same
command goes on where it ended: what was stored is not asked again.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from process.genre.answers import AnswerError, make_answer, make_rejected, read_reply
from process.genre.client import Client, EndpointError, RequestFailed
from process.genre.limits import Stopped
from process.genre.types import Answer, AnswerStore, Message, Rejected, Reply, Request, Summary

INTERRUPTED = "interrupted"
_FAILED_IN_A_ROW = 20  # then the endpoint is down, and the rest need not find out one by one
_QUOTED = 2000  # characters of a bad answer that is shown to its author

_AGAIN = """\
Your answer cannot be used: {reason}
Write the whole answer anew, as one JSON object of the form that was asked for, with nothing \
before or after it."""


def run(
    requests: Iterable[Request],
    client: Client,
    store: AnswerStore,
    *,
    repairs: int = 1,
    on_progress: Callable[[Summary], None] | None = None,
    grace: float = 10.0,
) -> Summary:
    """Ask what has no answer yet; requests that are alike (by their hash) are asked once.

    Args:
        requests: in any order.
        client: not yet opened; one serves one run.
        store: open.
        repairs: how often a model is told what is wrong with its answer.
        on_progress: given the summary so far, after every request.
        grace: seconds that requests in flight get after Ctrl-C; a second Ctrl-C gives them none.

    Returns:
        What was done; ``stopped`` says why it ended early (`INTERRUPTED` after Ctrl-C), and
        ``gave_up`` that the endpoint refuses every request or fails all the time.

    Raises:
        OSError: answers cannot be written.
    """
    return asyncio.run(_Loop(requests, client, store, repairs, on_progress, grace).run())


@dataclass(frozen=True)
class _Unusable:
    """What goes to the quarantine."""

    rejected: Rejected
    failed: bool
    """There was no reply at all."""


class _Loop:
    """One run."""

    def __init__(
        self,
        requests: Iterable[Request],
        client: Client,
        store: AnswerStore,
        repairs: int,
        on_progress: Callable[[Summary], None] | None,
        grace: float,
    ) -> None:
        distinct = {request.hash: request for request in requests}
        self._open = [request for request in distinct.values() if request.hash not in store]
        self._requests, self._already = len(distinct), len(distinct) - len(self._open)
        final = store.final_hashes
        self._refused = sum(request.hash in final for request in self._open)
        self._open = [request for request in self._open if request.hash not in final]
        self._client, self._store, self._repairs = client, store, repairs
        self._on_progress, self._grace = on_progress, grace
        self._answered = self._quarantined = self._failed = self._failed_in_a_row = 0
        self._stopped = self._first_reason = ""
        self._gave_up = False
        self._results: asyncio.Queue[Answer | _Unusable | None] = asyncio.Queue()
        self._stop = asyncio.Event()
        self._drop = asyncio.Event()
        self._begin = time.monotonic()

    async def run(self) -> Summary:
        """Ask everything, store everything."""
        async with self._client:
            waiting = iter(self._open)
            count = min(self._client.endpoint.concurrency, len(self._open))
            with self._listening_to_signals():
                writer = asyncio.create_task(self._write())
                workers = [asyncio.create_task(self._work(waiting)) for _ in range(count)]
                try:
                    await self._until_done(workers, writer)
                finally:
                    await self._results.put(None)
                    await writer
        return self.summary()

    def summary(self) -> Summary:
        """So far."""
        return Summary(
            requests=self._requests,
            already=self._already,
            refused=self._refused,
            answered=self._answered,
            quarantined=self._quarantined,
            failed=self._failed,
            usage=self._client.usage,
            cost=self._client.cost,
            seconds=time.monotonic() - self._begin,
            stopped=self._stopped,
            gave_up=self._gave_up,
            first_reason=self._first_reason or self._stopped,
        )

    async def _until_done(
        self, workers: Sequence[asyncio.Task[None]], writer: asyncio.Task[None]
    ) -> None:
        """Wait for the workers; after Ctrl-C no longer than the grace; not without the writer."""
        everything = asyncio.gather(*workers)
        stop = asyncio.create_task(self._stop.wait())
        drop = asyncio.create_task(self._drop.wait())
        ends: set[asyncio.Future[Any]] = {everything, writer}
        try:
            await asyncio.wait({*ends, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not everything.done() and not writer.done():
                grace = self._grace if self._stopped == INTERRUPTED else None
                await asyncio.wait(
                    {*ends, drop}, timeout=grace, return_when=asyncio.FIRST_COMPLETED
                )
            if everything.done():
                everything.result()
        finally:
            for task in (*workers, stop, drop):
                task.cancel()
            await asyncio.gather(*workers, everything, stop, drop, return_exceptions=True)

    async def _work(self, waiting: Iterator[Request]) -> None:
        """Ask one request after the other."""
        result: Answer | _Unusable
        for request in waiting:
            if self._stop.is_set():
                return
            try:
                result = await self._result(request)
            except Stopped as reason:
                self._end(str(reason))
                return
            except RequestFailed as reason:
                result = _Unusable(make_rejected(request, None, f"failed: {reason}"), failed=True)
                self._failed_in_a_row += 1
                if self._failed_in_a_row >= _FAILED_IN_A_ROW:
                    self._gave_up = True
                    self._end(f"{self._failed_in_a_row} requests in a row failed; last: {reason}")
            except EndpointError as error:
                self._gave_up = True
                self._end(str(error))
                return
            else:
                self._failed_in_a_row = 0
            await self._results.put(result)

    async def _result(self, request: Request) -> Answer | _Unusable:
        """The answer, or what came instead when the model was told what is wrong with it."""
        messages: tuple[Message, ...] = request.messages
        reply: Reply | None = None
        reasons: list[str] = []
        while True:
            try:
                new = await self._client.ask(request, messages)
            except (Stopped, RequestFailed) as error:
                if reply is None:
                    raise
                return _invalid(request, reply, [*reasons, f"asking again: {error}"])
            reply = new if reply is None else _added(reply, new)
            try:
                parsed = read_reply(request, reply)
            except AnswerError as error:
                reasons.append(error.reason)
                if error.final or len(reasons) > self._repairs:
                    return _invalid(request, reply, reasons, final=error.final)
                messages = _asking_again(request, reply, error.reason)
            else:
                notes = [*parsed.notes, *(f"asked again: {reason}" for reason in reasons)]
                return make_answer(request, reply, replace(parsed, notes=notes))

    async def _write(self) -> None:
        """Store what has come, in batches of what came while the last one was written."""
        ended = False
        while not ended:
            batch = [await self._results.get()]
            while not self._results.empty():
                batch.append(self._results.get_nowait())
            ended = batch[-1] is None
            unusable = [result for result in batch if isinstance(result, _Unusable)]
            answers = [r for r in batch if r is not None and not isinstance(r, _Unusable)]
            await asyncio.to_thread(self._put, answers, [one.rejected for one in unusable])
            failed = sum(one.failed for one in unusable)
            if unusable and not self._first_reason:
                self._first_reason = unusable[0].rejected["reason"]
            self._answered += len(answers)
            self._failed += failed
            self._quarantined += len(unusable) - failed
            if self._on_progress is not None:
                self._on_progress(self.summary())

    def _put(self, answers: list[Answer], rejected: list[Rejected]) -> None:
        if answers:
            self._store.add(answers)
        if rejected:
            self._store.reject(rejected)

    def _end(self, reason: str) -> None:
        self._stopped = self._stopped or reason
        self._stop.set()

    def _on_signal(self, name: str) -> None:
        if self._stop.is_set():
            self._drop.set()
            return
        self._end(INTERRUPTED)
        print(
            f"stopping; requests in flight get {self._grace:g} s ({name} again: none). Rerun the "
            "same command to continue.",
            file=sys.stderr,
        )

    @contextmanager
    def _listening_to_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        heard = []
        for number, name in ((signal.SIGINT, "Ctrl-C"), (signal.SIGTERM, "SIGTERM")):
            with suppress(RuntimeError, ValueError):  # not in the main thread
                loop.add_signal_handler(number, self._on_signal, name)
                heard.append(number)
        try:
            yield
        finally:
            for number in heard:
                loop.remove_signal_handler(number)


def _added(before: Reply, new: Reply) -> Reply:
    """The new reply; what both cost."""
    return replace(new, usage=before.usage + new.usage, seconds=before.seconds + new.seconds)


def _invalid(
    request: Request, reply: Reply, reasons: Sequence[str], *, final: bool = False
) -> _Unusable:
    reason = "; then: ".join(reasons)
    return _Unusable(make_rejected(request, reply, reason, final=final), failed=False)


def _asking_again(request: Request, reply: Reply, reason: str) -> tuple[Message, ...]:
    said = {"role": "assistant", "content": reply.text[:_QUOTED] or "(nothing)"}
    told = {"role": "user", "content": _AGAIN.format(reason=reason)}
    return (*request.messages, said, told)

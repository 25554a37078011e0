"""One client for every OpenAI-compatible endpoint: a vendor, vLLM, Ollama, the embedded server.

Repeated are only requests that may succeed the next time: 408, 409, 429 (as late as the server
asks for), 5xx, timeouts and cut connections; an error inside a 200 counts as what its code says. A
parameter that the endpoint refuses is left out (`process.genre.terms`). Where nobody listens, a few
tries are enough. Budgets and the total time end a run cleanly (`Stopped`); the key appears in
nothing that is raised, noted or stored.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from legos.errors import LegosError
from process.genre.endpoint import HIDDEN, STRUCTURED, Endpoint, redact
from process.genre.limits import Budget, Pace, Purse, Stopped, estimated_tokens
from process.genre.replies import ServerError, error_of_choice, read_body, read_error
from process.genre.terms import Terms, refuses_something
from process.genre.types import Message, Reply, Request, Usage

if TYPE_CHECKING:
    import openai
    import tenacity

_RETRIED = (408, 409, 429)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds; doubled at each attempt, drawn from 0 to that
_TRIES_TO_CONNECT = 3
_CONNECT_WITHIN = 10.0  # seconds
_SHOWN = 300  # characters of a server's message


class EndpointError(LegosError):
    """The endpoint refuses every request: a wrong key, address or model, no money left."""


class RequestFailed(Exception):
    """One request has no reply, after every retry; the text is the reason."""


class _MayPass(Exception):
    """One attempt failed and another may succeed."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Unreachable(_MayPass):
    """No connection came about: nobody listens, or the name is unknown."""


class _Refused(Exception):
    """A refusal that asking the same again will not change."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.message)
        self.error = error


def free_of_charge(usage: Usage) -> float:
    """The price of a local model."""
    return 0.0


class Client:
    """Asks; ``async with`` it. Counts what it spent over all attempts.

    Args:
        endpoint: whom, and how fast.
        budget: at which it stops.
        price: cost of some usage.

    Attributes:
        usage: of every reply so far.
        cost: of these.
        attempts: requests sent, repeated ones included.
        notes: what the user should know about the endpoint.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        budget: Budget | None = None,
        price: Callable[[Usage], float] = free_of_charge,
    ) -> None:
        self.endpoint, self.price = endpoint, price
        self.usage, self.attempts = Usage(), 0
        self.notes: list[str] = []
        self._budget = budget or Budget()
        self._key = endpoint.key()
        self._terms = Terms(endpoint.structured)

    @property
    def cost(self) -> float:
        """Of every reply so far."""
        return self.price(self.usage)

    async def __aenter__(self) -> Client:
        """Open the connections."""
        import httpx2
        import openai

        endpoint = self.endpoint
        self._purse = Purse(self._budget)
        self._requests = Pace(endpoint.requests_per_minute)
        self._tokens = Pace(endpoint.tokens_per_minute)
        self._slots = asyncio.Semaphore(endpoint.concurrency)
        self._paused_until = 0.0
        self._deadline = (
            None
            if endpoint.total_timeout is None
            else asyncio.get_running_loop().time() + endpoint.total_timeout
        )
        self._http = httpx2.AsyncClient(
            timeout=httpx2.Timeout(
                endpoint.timeout, connect=min(endpoint.timeout, _CONNECT_WITHIN)
            ),
            follow_redirects=False,  # a key goes to the named server and to no other
            trust_env=not endpoint.is_local,
            limits=httpx2.Limits(max_connections=endpoint.concurrency),
        )
        self._sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=self._http.timeout,
            http_client=self._http,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def ask(self, request: Request, messages: Sequence[Message] | None = None) -> Reply:
        """One reply.

        Args:
            request: what to ask, and how the answer must look.
            messages: instead of the request's own, when it is asked again.

        Raises:
            EndpointError: no request of this run can succeed.
            RequestFailed: this one cannot, or did not in all its attempts.
            Stopped: a budget or the total time is spent.
        """
        asked = tuple(messages or request.messages)
        try:
            async with asyncio.timeout_at(self._deadline), self._slots:
                return await self._on_fitting_terms(request, asked)
        except TimeoutError:
            raise Stopped(
                f"the total time limit ({self.endpoint.total_timeout:g} s) was reached"
            ) from None

    async def _on_fitting_terms(self, request: Request, asked: Sequence[Message]) -> Reply:
        """Ask with all that the endpoint accepts, and remember what it refuses."""
        terms = self._terms
        while True:
            body = terms.body(request, asked)
            try:
                reply = await self._repeatedly(request, body)
            except _Refused as refused:
                weaker = terms.weaker(refused.error, body)
                if weaker is None:
                    raise self._hopeless(refused.error) from None
                terms = weaker
            else:
                self._remember(terms)  # once something weaker has worked
                return replace(reply, without=tuple(sorted(terms.without)))

    def _remember(self, terms: Terms) -> None:
        known = self._terms
        self._terms = known.or_weaker(terms)
        if self._terms.structured != known.structured:
            level = STRUCTURED.index(self._terms.structured)
            self._note(f"the endpoint refuses {STRUCTURED[level - 1]}; {STRUCTURED[level]} now")
        for note in self._terms.notes():
            self._note(note)

    def _hopeless(self, error: ServerError) -> Exception:
        """What a refusal is that nothing can be left out for."""
        if error.status != 404:
            return RequestFailed(f"HTTP {error.status}: {error.message}")
        return self._of_every_request(error)

    async def _repeatedly(self, request: Request, body: dict[str, Any]) -> Reply:
        import tenacity

        backing_off = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked_for = error.wait if isinstance(error, _MayPass) else 0.0
            return asked_for + backing_off(state)

        def stop(state: tenacity.RetryCallState) -> bool:
            error = state.outcome.exception() if state.outcome else None
            most = 1 + self.endpoint.retries
            tries = min(most, _TRIES_TO_CONNECT) if isinstance(error, _Unreachable) else most
            return state.attempt_number >= tries

        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_MayPass), stop=stop, wait=wait, reraise=True
        )
        try:
            return await attempts(self._once, request, body)
        except _Unreachable as error:
            raise EndpointError(
                f"{self.endpoint.base_url}: {error}; is the server running, and is this its "
                "address?"
            ) from None
        except _MayPass as error:
            raise RequestFailed(f"{error} (after {1 + self.endpoint.retries} attempts)") from None

    async def _once(self, request: Request, body: dict[str, Any]) -> Reply:
        most = Usage(estimated_tokens(body["messages"]), request.max_tokens)
        reserved = await self._purse.set_aside(most, self.price(most))
        used, sent = Usage(), False
        try:
            await self._turn(most)
            sent = True
            self.attempts += 1
            begin = time.monotonic()
            text, headers = await self._send(body)
            reply = self._read(text, headers, most, time.monotonic() - begin)
            used = reply.usage
            self.usage += used
            self._tokens.correct(_total(used) - _total(most))
            return reply
        finally:
            await self._purse.settle(reserved, used, self.price(used), sent=sent)

    async def _turn(self, most: Usage) -> None:
        await self._requests.take()
        await self._tokens.take(_total(most))
        while (pause := self._paused_until - time.monotonic()) > 0:
            await asyncio.sleep(pause)

    async def _send(self, body: dict[str, Any]) -> tuple[str, Mapping[str, str]]:
        """The body of a reply and its headers."""
        import httpx2
        import openai

        try:
            async with asyncio.timeout(self.endpoint.timeout):
                # the typed method checks a body for as long as everything else takes together
                raw = await self._sdk.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return raw.text, raw.headers
        except openai.APIStatusError as error:
            told = read_error(_body_of(error), error.status_code)
            told = told or ServerError(error.status_code, error.message)
            raise self._judged(told, error.response.headers) from None
        except (openai.APITimeoutError, TimeoutError) as error:
            if isinstance(error.__cause__, httpx2.ConnectTimeout):
                raise _Unreachable(f"no connection within {_CONNECT_WITHIN:g} s") from None
            raise _MayPass(f"no answer within {self.endpoint.timeout:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            reason = self._clean(str(cause)) or type(cause).__name__
            kind = _Unreachable if isinstance(cause, httpx2.ConnectError) else _MayPass
            raise kind(f"connection failed: {reason}") from None
        except UnicodeError:
            raise RequestFailed("the request is not valid Unicode") from None

    def _judged(self, error: ServerError, headers: Mapping[str, str]) -> Exception:
        """What an error means for this request and for the others."""
        error = replace(error, message=self._clean(error.message))
        status = error.status
        if status == 402 or "insufficient_quota" in error.codes:
            return EndpointError(f"{self.endpoint.base_url}: no quota left: {error.message}")
        if status in _RETRIED or (status >= 500 and not refuses_something(error)):
            wait = _retry_after(headers)
            if status == 429 and wait:  # the others need not find out for themselves
                self._paused_until = max(self._paused_until, time.monotonic() + wait)
            return _MayPass(f"HTTP {status}: {error.message}", wait)
        hopeless = status == 401 or status < 400
        if hopeless or (status == 403 and not self.usage.prompt_tokens):  # later: of one text
            return self._of_every_request(error)
        return _Refused(error)

    def _of_every_request(self, error: ServerError) -> EndpointError:
        return EndpointError(
            f"{self.endpoint.base_url}: HTTP {error.status}: {error.message}; is the base URL "
            "right (most end in /v1), the name of the model, the key in the environment?"
        )

    def _read(self, text: str, headers: Mapping[str, str], most: Usage, seconds: float) -> Reply:
        try:
            body = json.loads(text)
        except (ValueError, RecursionError):
            raise _MayPass(
                "the reply is not JSON; it was cut off, or the server is not a language model"
            ) from None
        error = read_error(body, 200) or error_of_choice(body)
        if error is not None:
            raise self._judged(error, headers)
        said = read_body(body)
        if said is None:
            shown = self._clean(text)
            raise RequestFailed(f"the reply is not a chat completion: {shown}")
        usage = said.usage
        if usage is None:
            self._note("the endpoint does not count tokens; counts are estimated")
            usage = Usage(most.prompt_tokens, estimated_tokens([{"content": said.text}]))
        return Reply(
            text=said.text.replace(self._key, HIDDEN) if self._key else said.text,
            usage=usage,
            seconds=seconds,
            model=redact(said.model, self._key),
            finish_reason=said.finish_reason,
            refusal=self._clean(said.refusal),
            reasoned=said.reasoned,
        )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _clean(self, text: str) -> str:
        """One short line without the key; hidden before it is cut, or half a key might stay."""
        return " ".join(redact(text, self._key).split())[:_SHOWN]


def _total(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _body_of(error: openai.APIStatusError) -> Any:
    """The whole body; the SDK keeps of an object only what stands under ``error``."""
    try:
        return json.loads(error.response.text)
    except (ValueError, RecursionError):
        return error.response.text or error.message


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds that a server asks to wait: a number or a date; 0 where it does not."""
    try:
        return _at_least_zero(float(headers.get("retry-after-ms", "")) / 1000)
    except ValueError:
        pass
    value = headers.get("retry-after", "")
    try:
        return _at_least_zero(float(value))
    except ValueError:
        pass
    try:
        return _at_least_zero(parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _at_least_zero(seconds: float) -> float:
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0

"""One client for every OpenAI-compatible endpoint: a vendor, vLLM, Ollama, the embedded server.

Repeated are only requests that may succeed the next time: 408, 409, 429 (as late as the server
asks for), 5xx, timeouts and cut connections. Budgets and the total time end a run cleanly
(`Stopped`); the key appears in nothing that is raised, noted or stored.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable, Sequence
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from legos.errors import LegosError
from process.genre.endpoint import HIDDEN, STRUCTURED, Endpoint, redact
from process.genre.limits import Budget, Pace, Purse, Stopped, estimated_tokens
from process.genre.types import Message, Reply, Request, Usage

if TYPE_CHECKING:
    import openai
    import tenacity

_RETRIED = (408, 409, 429)
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 30.0  # seconds; doubled at each attempt, drawn from 0 to that
_SHOWN = 300  # characters of a server's message
_ABOUT_FORMAT = ("response_format", "json_schema", "json_object", "schema", "grammar", "structured")


class EndpointError(LegosError):
    """The endpoint refuses every request: a wrong key, address or model, no money left."""


class RequestFailed(Exception):
    """One request has no reply, after every retry; the text is the reason."""


class _MayPass(Exception):
    """One attempt failed and another may succeed."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class _Refused(Exception):
    """A 4xx that asking again will not change."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


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
        self._level = STRUCTURED.index(endpoint.structured)
        self._limit_name = "max_tokens"

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
            timeout=endpoint.timeout,
            follow_redirects=False,  # a key goes to the named server and to no other
            trust_env=not endpoint.is_local,
            limits=httpx2.Limits(max_connections=endpoint.concurrency),
        )
        self._sdk = openai.AsyncOpenAI(
            api_key=self._key or "none",
            base_url=endpoint.base_url,
            max_retries=0,
            timeout=endpoint.timeout,
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
                return await self._with_fitting_format(request, asked)
        except TimeoutError:
            raise Stopped(f"the total time ({self.endpoint.total_timeout:g} s) is over") from None

    async def _with_fitting_format(self, request: Request, asked: Sequence[Message]) -> Reply:
        """Ask as strictly as the endpoint allows, and remember how strict that is."""
        level = self._level
        while True:
            limit_name = self._limit_name
            try:
                reply = await self._repeatedly(request, self._body(request, asked, level))
            except _Refused as refused:
                text = str(refused).lower()
                if refused.status == 400 and "max_completion_tokens" in text:
                    if limit_name != "max_completion_tokens":
                        self._limit_name = "max_completion_tokens"
                        continue
                elif level + 1 < len(STRUCTURED) and any(word in text for word in _ABOUT_FORMAT):
                    level += 1
                    continue
                raise RequestFailed(f"HTTP {refused.status}: {refused}") from None
            if level > self._level:  # remembered once something weaker has worked
                self._level = level
                self._note(f"the endpoint refuses {STRUCTURED[level - 1]}; {STRUCTURED[level]} now")
            return reply

    def _body(self, request: Request, asked: Sequence[Message], level: int) -> dict[str, Any]:
        sampling = request.sampling
        body: dict[str, Any] = {
            "model": sampling.model,
            "messages": [dict(message) for message in asked],
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "frequency_penalty": sampling.frequency_penalty,
            self._limit_name: request.max_tokens,
        }
        if STRUCTURED[level] == "json_schema":
            schema = {"name": "answer", "strict": True, "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif STRUCTURED[level] == "json_object":
            body["response_format"] = {"type": "json_object"}
        return body

    async def _repeatedly(self, request: Request, body: dict[str, Any]) -> Reply:
        import tenacity

        backing_off = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked_for = error.wait if isinstance(error, _MayPass) else 0.0
            return asked_for + backing_off(state)

        attempts = tenacity.AsyncRetrying(
            retry=tenacity.retry_if_exception_type(_MayPass),
            stop=tenacity.stop_after_attempt(1 + self.endpoint.retries),
            wait=wait,
            reraise=True,
        )
        try:
            return await attempts(self._once, request, body)
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
            text = await self._send(body)
            reply = self._read(text, most, time.monotonic() - begin)
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

    async def _send(self, body: dict[str, Any]) -> str:
        import httpx2
        import openai

        try:
            async with asyncio.timeout(self.endpoint.timeout):
                # the typed method checks a body for as long as everything else takes together
                raw = await self._sdk.post("/chat/completions", body=body, cast_to=httpx2.Response)
            return raw.text
        except openai.APIStatusError as error:
            raise self._judged(error) from None
        except (openai.APITimeoutError, TimeoutError):
            raise _MayPass(f"no answer within {self.endpoint.timeout:g} s") from None
        except (openai.APIConnectionError, httpx2.HTTPError) as error:
            cause = error.__cause__ or error
            reason = self._clean(str(cause)) or type(cause).__name__
            raise _MayPass(f"connection failed: {reason}") from None
        except UnicodeError:
            raise RequestFailed("the request is no valid Unicode") from None

    def _judged(self, error: openai.APIStatusError) -> Exception:
        """What an error status means for this request and for the others."""
        status, message = error.status_code, self._clean(_message(error))
        if "insufficient_quota" in str(error.body):
            return EndpointError(f"{self.endpoint.base_url}: no quota left: {message}")
        if status in _RETRIED or status >= 500:
            wait = _retry_after(error.response.headers.get("retry-after"))
            if status == 429 and wait:  # the others need not find out for themselves
                self._paused_until = max(self._paused_until, time.monotonic() + wait)
            return _MayPass(f"HTTP {status}: {message}", wait)
        hopeless = status in (401, 402, 404) or status < 400
        if hopeless or (status == 403 and not self.usage.prompt_tokens):  # later: of one text
            return EndpointError(
                f"{self.endpoint.base_url}: HTTP {status}: {message}; is the base URL right (most "
                "end in /v1), the name of the model, the key in the environment?"
            )
        return _Refused(status, message)

    def _read(self, text: str, most: Usage, seconds: float) -> Reply:
        try:
            body = json.loads(text)
            choice = body["choices"][0]
            content = choice["message"].get("content") or ""
        except ValueError:
            raise _MayPass(
                "the reply is no JSON; it was cut, or is none of a language model"
            ) from None
        except (KeyError, IndexError, TypeError, AttributeError):
            shown = self._clean(text)
            raise RequestFailed(f"the reply is no chat completion: {shown}") from None
        usage = body.get("usage") or {}
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            self._note("the endpoint does not count tokens; they are estimated")
            prompt = most.prompt_tokens
            completion = estimated_tokens([{"content": str(content)}])
        return Reply(
            text=str(content).replace(self._key, HIDDEN) if self._key else str(content),
            usage=Usage(prompt, completion),
            seconds=seconds,
            model=redact(str(body.get("model") or ""), self._key),
            finish_reason=str(choice.get("finish_reason") or "stop"),
        )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _clean(self, text: str) -> str:
        """One short line without the key; hidden before it is cut, or half a key might stay."""
        return " ".join(redact(text, self._key).split())[:_SHOWN]


def _total(usage: Usage) -> int:
    return usage.prompt_tokens + usage.completion_tokens


def _message(error: openai.APIStatusError) -> str:
    body = error.body
    inner = body.get("message") if isinstance(body, dict) else None
    return str(inner or body or error.message)


def _retry_after(value: str | None) -> float:
    """Seconds of a ``Retry-After`` header: a number or a date; 0 where there is none."""
    if value is None:
        return 0.0
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return 0.0
    return max(0.0, seconds) if math.isfinite(seconds) else 0.0

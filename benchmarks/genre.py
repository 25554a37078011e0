"""GENRE's client, 32 requests at a time against one; the embedded server against transformers.

python -m benchmarks.genre [--quick] [--only clients|tokens|json] [--titles FILE]

clients: a server on loopback takes 200 ms for every answer; answers a second, stored on disk.
tokens:  tokens a second of SmolLM2 by llama.cpp and by transformers' plain `generate`, the same
         prompts one after the other, greedy, without constraint.
json:    answers that are one valid JSON object of their schema, with constrained decoding and
         without; `as they are`, and after tolerant reading.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

from jsonschema import Draft202012Validator

from benchmarks.report import Part, finish_parts
from legos.files import sha256_of_text
from process.genre.client import Client
from process.genre.embedded import MODEL, EmbeddedServer
from process.genre.endpoint import Endpoint, Structured
from process.genre.run import run
from process.genre.scheme import load_scheme
from process.genre.store import Store
from process.genre.types import Request, Sampling, Summary
from tests.process.genre.server import FaultyServer, Told

LATENCY, CONCURRENCY = 0.2, 32
TARGET = 25.0
SCHEME = "book_description"
TARGETS = {"clients": f">= {TARGET:g}", "tokens": "> 1", "json": ">= 1"}
TITLES = (
    "The Salt Road Home",
    "A Field Guide to Winter Birds",
    "Numbers Before Breakfast",
    "The Lighthouse Keeper's Second Daughter",
    "Baking Without a Recipe",
    "Empire of Small Things",
    "How Rivers Remember",
    "The Detective Who Slept",
)


def book_requests(
    titles: Sequence[str], *, max_tokens: int | None = None, greedy: bool = True
) -> list[Request]:
    """A book description for every title; ``greedy`` without the scheme's own penalty."""
    scheme = load_scheme(SCHEME)
    requests = []
    for number, title in enumerate(titles):
        messages = scheme.messages({"item": f"title: {title}"}, {})
        request = Request(
            key=str(number),
            messages=messages,
            schema=scheme.answer_schema({}, {}),
            max_tokens=max_tokens or scheme.max_tokens,
            hash=sha256_of_text(f"{number} {messages}"),
            scheme=scheme.name,
            version=scheme.version,
            sampling=Sampling(
                model=MODEL, frequency_penalty=0.0 if greedy else scheme.frequency_penalty
            ),
        )
        requests.append(request)
    return requests


def ask(requests: Sequence[Request], endpoint: Endpoint) -> tuple[Summary, dict[str, str]]:
    """Run without repairs into a fresh store; the summary, and the raw text of every answer."""
    with tempfile.TemporaryDirectory() as folder, Store.open(Path(folder), SCHEME) as store:
        summary = run(requests, Client(endpoint), store, repairs=0)
        lines = [*store.answers(), *store.quarantine()]
        return summary, {line["key"]: line["text"] for line in lines}


@contextmanager
def slow_server() -> Iterator[str]:
    """The base URL of a server with latency, in a process of its own as servers are."""
    processes = multiprocessing.get_context("spawn")
    here, there = processes.Pipe()
    process = processes.Process(target=_serve, args=(there,), daemon=True)
    process.start()
    try:
        yield here.recv()
    finally:
        here.send("end")
        process.join(10)


def _serve(pipe: Connection) -> None:
    good = json.dumps({"description": "A quiet novel about the sea."})
    with FaultyServer(lambda asked: Told(text=good, delay=LATENCY)) as server:
        pipe.send(server.base_url)
        pipe.recv()


def compare_clients(*, quick: bool) -> Part:
    """Answers a second at 32 requests in flight and at one."""
    serial_count, count = (15, 320) if quick else (50, 1600)
    rates = {}
    with slow_server() as base_url:
        ask(book_requests(["Warm"]), Endpoint(base_url))  # so that no side pays for the imports
        for concurrency, number in ((1, serial_count), (CONCURRENCY, count)):
            requests = book_requests([f"Book {n}" for n in range(number)])
            begin = time.perf_counter()
            summary, _ = ask(requests, Endpoint(base_url, concurrency=concurrency))
            rates[concurrency] = number / (time.perf_counter() - begin)
            assert summary.answered == number
            print(f"{concurrency:>3} at a time: {rates[concurrency]:7.1f} answers a second")
    ratio = rates[CONCURRENCY] / rates[1]
    print(f"ratio: {ratio:.1f}")
    return Part(rates[CONCURRENCY], rates[1], ratio, ratio >= TARGET)


def compare_tokens(titles: Sequence[str], *, max_tokens: int) -> Part:
    """Tokens a second of both, prompts included."""
    requests = book_requests(titles, max_tokens=max_tokens)
    with EmbeddedServer(context_size=1024) as server:
        endpoint = Endpoint(server.base_url, concurrency=1, structured="text")
        ask([replace(requests[0], hash="warm", max_tokens=2)], endpoint)
        summary, _ = ask(requests, endpoint)
    tokens = summary.usage.completion_tokens
    ours = tokens / summary.seconds
    print(f"llama.cpp:    {ours:6.1f} tokens a second ({tokens} in {summary.seconds:.1f} s)")
    other = _transformers_rate(requests)
    print(f"ratio: {ours / other:.2f}")
    return Part(ours, other, ours / other, ours > other)


def _transformers_rate(requests: Sequence[Request]) -> float:
    import torch
    from transformers import AutoModelForCausalLM, GgufConfig

    from legos.lm.load import LanguageModel
    from legos.lm.locate import packaged

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    language = LanguageModel(packaged(MODEL))
    tokenizer = language.transformers_tokenizer()
    model = AutoModelForCausalLM.from_pretrained(
        str(language.located.folder),
        local_files_only=True,
        dtype=torch.float32,
        quantization_config=GgufConfig(dequantize=True),
        **language.located.arguments,
    ).eval()

    def generate(request: Request, limit: int) -> int:
        prompt = tokenizer.apply_chat_template(
            [dict(message) for message in request.messages],
            add_generation_prompt=True,
            return_tensors="pt",
            return_dict=True,
        )
        with torch.inference_mode():
            output = model.generate(**prompt, max_new_tokens=limit, do_sample=False)
        return int(output.shape[1] - prompt["input_ids"].shape[1])

    generate(requests[0], 2)
    begin = time.perf_counter()
    tokens = sum(generate(request, request.max_tokens) for request in requests)
    seconds = time.perf_counter() - begin
    print(f"transformers: {tokens / seconds:6.1f} tokens a second ({tokens} in {seconds:.1f} s)")
    return tokens / seconds


def compare_json(titles: Sequence[str]) -> Part:
    """Shares of usable answers with constrained decoding and without."""
    requests = book_requests(titles, greedy=False)
    shares: dict[str, dict[str, float]] = {}
    kinds: tuple[Structured, ...] = ("json_schema", "text")
    with EmbeddedServer(context_size=1024) as server:
        for structured in kinds:
            endpoint = Endpoint(server.base_url, concurrency=1, structured=structured)
            summary, texts = ask(requests, endpoint)
            strict = sum(_is_valid(texts[one.key], one) for one in requests) / len(requests)
            tolerant = summary.answered / len(requests)
            shares[structured] = {"as_they_are": strict, "read_tolerantly": tolerant}
            name = "constrained" if structured == "json_schema" else "free"
            print(f"{name:>11}: {strict:6.1%} valid as they are, {tolerant:6.1%} read tolerantly")
    ours, other = shares["json_schema"], shares["text"]
    free = other["as_they_are"]
    ratio = ours["as_they_are"] / free if free else None
    return Part(ours, other, ratio, ours["as_they_are"] >= free)


def _is_valid(text: str, request: Request) -> bool:
    try:
        return bool(Draft202012Validator(request.schema).is_valid(json.loads(text)))
    except ValueError:
        return False


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="few requests, short answers")
    parser.add_argument("--only", choices=TARGETS, help="one part")
    parser.add_argument("--titles", type=Path, help="one title a line; default: a few made-up ones")
    parser.add_argument("--count", type=int, default=100, help="titles at most (%(default)s)")
    args = parser.parse_args()
    titles: Sequence[str] = TITLES
    if args.titles is not None:
        titles = args.titles.read_text(encoding="utf-8").splitlines()
    titles = titles[: 4 if args.quick else args.count]
    measured = {
        "clients": lambda: compare_clients(quick=args.quick),
        "tokens": lambda: compare_tokens(titles, max_tokens=24 if args.quick else 96),
        "json": lambda: compare_json(titles),
    }
    results = {part: measured[part]() for part in TARGETS if args.only in (None, part)}
    finish_parts("genre", results, TARGETS)


if __name__ == "__main__":
    main()

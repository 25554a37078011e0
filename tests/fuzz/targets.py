"""Every kind of file of our own: how one is made, and the command or call that reads it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import worker
from legos.data.interactions import Interactions
from legos.data.items import ItemStore
from legos.data.tables import Tables
from legos.data.tokenizers import load_tokenizer
from legos.data.vector_files import (
    read_item_codes,
    read_item_vectors,
    write_item_codes,
    write_item_vectors,
)
from legos.errors import run_command
from legos.files import write_json
from legos.lm.hidden_writer import write_parts
from legos.lm.sentence import SentenceHead
from legos.lm.sentence_files import sentence_files
from legos.lm.token_vectors import TokenVectors, read_token_table, write_token_table
from legos.reports.curves import read_metrics
from legos.reports.page import write_report
from legos.runs.folder import RunFolder
from legos.systems.cllm4rec.corpus import TokenStore
from legos.systems.cllm4rec.stages import Pretrained
from legos.systems.recsysllm.backbones.glm_files import GlmFiles
from legos.systems.recsysllm.catalogue import Origin
from legos.systems.recsysllm.tasks.candidates import frozen_candidates
from legos.systems.recsysllm.tasks.events import Sequences
from legos.training.saved_state import load_trained
from process.amazon.assemble import Options, read_prepared
from process.columns import ColumnReader
from process.genre.store import Store
from process.interactions.filters import Filters
from process.interactions.impressions import Negatives
from process.raw import TokenizerSpec
from process.recbole.__main__ import build_parser as recbole_parser
from process.recbole.__main__ import main as recbole
from process.table.assemble import read_own
from process.table.options import Options as OwnOptions
from process.table.sources import open_source
from process.tables import write_tables
from tests.lm.cached import PARTS, TOKENS, cache, states
from tests.lm.shipped import WIDTH, dense, ship
from tests.modes.tiny_config import tiny_config
from tests.process.genre.test_store import answer, rejected
from tests.process.table.own import records
from tests.reports.test_report import run_folder
from tests.shop import make_shop
from tests.systems.cllm4rec.test_token_store import Encoder, corpus
from tests.systems.recsysllm.reviews import write_raw
from tests.tiny import tiny_tables
from tests.training.tiny_training import FIELDS, saved_tiny, tiny_training

Read = Callable[[], object]


@dataclass(frozen=True)
class Target:
    """A kind of file.

    Attributes:
        make: writes the files into a folder and gives the call that reads them; an exit code, or
            anything else for success.
        files: patterns of the files to be spoiled.
        count: mutations of each of them.
        free: keys that no reader needs to mind.
        reseals: whether the tables' manifest is to know the size of a spoiled file.
        harmless: ends of the names of further mutations that a reader may take.
    """

    make: Callable[[Path], Read]
    files: tuple[str, ...]
    count: int = 12
    free: frozenset[str] = frozenset()
    reseals: bool = False
    harmless: tuple[str, ...] = ()


def exit_code(read: Read) -> int:
    """How a command that reads so would end."""

    def command(words: object) -> int:
        code = read()
        return code if type(code) is int else 0

    return run_command(command, [])


def _tables(folder: Path) -> Read:
    tiny_tables(folder, num_items=20, num_users=12, num_impressions=10)

    def read() -> None:
        tables = Tables.load(folder)
        for split in ("train", "test"):
            Interactions.from_tables(tables, split, history_length=5)
            tables.scalar(split, "time")
        ItemStore.from_tables(tables, FIELDS)
        for name in tables.manifest["vocabularies"]:
            tables.vocabulary(name)
        tables.texts("title")
        reader = ColumnReader(folder)
        reader.texts("title")
        reader.lists("train", "candidates")
        load_tokenizer(folder, tables.manifest, "words")

    return read


def _check(folder: Path) -> Read:
    """``worker.py --check`` on tables."""
    tiny_tables(folder / "tables", num_items=20, num_users=12, num_impressions=10)
    (folder / "tiny.yaml").write_text(
        f"name: tiny\nfolder: {folder / 'tables'}\nhistory_length: 5\nfields: [title@words]\n"
    )
    words = ["--data", str(folder / "tiny.yaml"), "--model", "pooling", "--exp", "train"]
    words += ["--hidden_size", "8", "--exp.runs_folder", str(folder / "runs"), "--check"]
    return lambda: worker.main(words)


def _best(folder: Path) -> Read:
    training = tiny_training(tiny_tables(folder / "tables"))
    saved_tiny(training, folder).save("best")
    return lambda: load_trained(training.bare_model, folder / "best", training.system)


def _last(folder: Path) -> Read:
    training = tiny_training(tiny_tables(folder / "tables"))
    saved = saved_tiny(training, folder)
    saved.save("last")
    return saved.resume


def _run(folder: Path) -> Read:
    run_folder(folder)

    def read() -> None:
        write_report(folder)

    return read


def _metrics(folder: Path) -> Read:
    run_folder(folder)
    return lambda: read_metrics(folder / "metrics.jsonl")


def _results(folder: Path) -> Read:
    run_folder(folder)
    return lambda: RunFolder(folder).results()


def _origin(folder: Path) -> Read:
    tables = Tables.load(tiny_tables(folder / "here"))
    other = tiny_tables(folder / "there", seed=1)
    sources = {"data.folder": Tables.load(other).fingerprint}
    RunFolder(folder / "run").describe(tiny_config(other, folder / "runs"), sources)
    return lambda: Origin.of_run(folder / "run", tables)


def _hidden_states(folder: Path) -> Read:
    made = cache(folder)
    write_parts(made, TOKENS, PARTS, states, dtype="bf16", shard_bytes=64)
    return lambda: [made.open(part.name) for part in PARTS]


def _verify(folder: Path) -> Read:
    """``worker.py --exp cache --verify``."""
    made = cache(folder / "cache" / "tiny")
    write_parts(made, TOKENS, PARTS, states, dtype="fp16", shard_bytes=64)
    words = ["--exp", "cache", "--exp.cache.folder", str(folder / "cache"), "--verify"]
    return lambda: worker.main(words)


def _token_store(folder: Path) -> Read:
    store = TokenStore(folder, {"kinds": ["title"]})
    store.write(corpus(), Encoder())
    return store.open


def _candidates(folder: Path) -> Read:
    options = Options(filters=Filters(), negatives=Negatives(4, (5, 9), 0))
    raw = read_prepared(write_raw(folder / "raw"), name="reviewed", options=options)
    write_tables(raw, folder / "tables", [TokenizerSpec("words", "words")], unitok=False)
    sequences = Sequences.from_tables(Tables.load(folder / "tables"))

    def read() -> object:
        return frozen_candidates(
            folder / "frozen", sequences, tables="t", split="test", seed=0, negatives=3
        )

    read()
    return read


def _sentence_encoder(folder: Path) -> Read:
    pooling = {"embedding_dimension": WIDTH, "pooling_mode": "max", "include_prompt": True}
    whole = {"prompts": {"query": "query: "}, "default_prompt_name": "query", "truncate_dim": 3}
    ship(folder, pooling=pooling, heads=(dense(WIDTH, 4), ("Normalize", {})), whole=whole)

    def read() -> None:
        files = sentence_files(folder)
        if files is not None:
            SentenceHead(files, WIDTH)

    return read


def _item_vectors(folder: Path) -> Read:
    tables = Tables.load(tiny_tables(folder / "tables"))
    np.save(folder / "given.npy", np.ones((tables.num_items, 3), dtype=np.float32))
    ids = tables.vocabulary("item_id")
    write_item_vectors(folder / "given.safetensors", ids, torch.ones(len(ids), 3))
    write_item_codes(folder / "codes.safetensors", ids, torch.ones(len(ids), 2))

    def read() -> None:
        read_item_vectors(folder / "given.npy", tables)
        read_item_vectors(folder / "given.safetensors", tables)
        read_item_codes(folder / "codes.safetensors", tables)

    return read


def _token_table(folder: Path) -> Read:
    path = folder / "table.safetensors"
    write_token_table(path, TokenVectors(["a", "b"], torch.ones(2, 3)))
    return lambda: read_token_table(path)


def _pretrained(folder: Path) -> Read:
    found = Pretrained.__new__(Pretrained)
    found._path = folder / "pointer.json"
    write_json(found._path, {"checkpoint": str(folder / "checkpoint")})
    return found.find


def _glm(folder: Path) -> Read:
    shape = {"model_type": "glm", "num_layers": 1, "hidden_size": 8, "num_attention_heads": 2}
    write_json(folder / "config.json", {**shape, "vocab_size": 30})
    source: Any = SimpleNamespace(name="glm", path=str(folder), shape=None, random=False)
    return lambda: GlmFiles(source).config


def _store(folder: Path) -> Read:
    with Store.open(folder, "s") as store:
        store.add([answer("a"), answer("b")])
        store.reject([rejected("c")])

    def read() -> None:
        Store.read(folder, "s").counts()

    return read


def _own_data(folder: Path) -> Read:
    shop = make_shop("en", items=30, events=160, users=9, unclicked=2, unknown=1)
    paths = {name: folder / f"{name}.csv" for name in ("items", "users")}
    for name, path in paths.items():
        getattr(shop, name).to_csv(path, index=False)
    paths["events"] = folder / "events.jsonl"
    paths["events"].write_text("\n".join(records(shop.events)))
    options = OwnOptions(max_bad=0)

    def read() -> None:
        sources = [
            [open_source(paths[name], name, encoding="utf-8", quotes=True)]
            for name in ("items", "events", "users")
        ]
        read_own(*sources, name="shop", options=options)

    return read


def _recbole(folder: Path) -> Read:
    write_json(folder / "export.json", {"tables": "t", "name": "n", "events": "0" * 64})
    result = {"hit@5": 0.2, "ndcg@5": 0.1}
    content = {"model": "HGN", "events": "0" * 64, "test_result": result}
    write_json(folder / "HGN.json", content)
    words = ["import", "--data", str(folder)]
    return lambda: recbole(recbole_parser().parse_args(words))


_MAY_BE_ABSENT = (
    "missing",
    *(
        f"{name} gone"
        for name in (
            *("baselines", "training", "popularity", "oracle", "test", "items", "best"),
            *("GAUC", "LogLoss", "groups", "one_class", "empty", "no_positive", "measurement"),
        )
    ),
)
_OF_RESULTS = frozenset({"embed", "rows", "epochs", "test_peak_memory_mb", "novelty@5", "honesty"})
_OF_RESUMING = frozenset(
    {"progress", "rows_per_step", "early_stopping", "metrics_position", "random", "scaler"}
)
_NAMED = ("customer_id", "sku", "event")  # numbers are names, too
_SETTINGS = frozenset({"data", "model", "exp", "embed", "run"})
_MANIFEST = frozenset({"toolkit", "summary", "oddities", "settings", "tokenizers"})

TARGETS: dict[str, Target] = {
    "tables": Target(_tables, ("manifest.json",), 40, _MANIFEST, harmless=("columns.time gone",)),
    "columns": Target(
        _tables,
        ("columns/items/*.npy", "columns/train/*.npy", "columns/histories/items.values.npy"),
        12,
        frozenset({"time", "impression_id"}),
        reseals=True,
        harmless=("holds -1",),  # a label that is not known
    ),
    "texts and vocabularies": Target(
        _tables,
        (
            "columns/items/title.json",
            "columns/vocabulary/words.json",
            "columns/tokenizer/words/vocabulary.json",
        ),
        12,
        reseals=True,
    ),
    "check": Target(
        _check,
        ("tables/manifest.json",),
        6,
        _MANIFEST,
        harmless=("fields.title gone", "columns.time gone", "_id gone"),
    ),
    "best": Target(_best, ("best/*",), 13, _OF_RESUMING, harmless=("system gone",)),
    "last": Target(
        _last,
        ("last/*",),
        13,
        frozenset({"scaler"}),
        harmless=("system gone", "early_stopping.best is 1.5"),  # none yet, or a number
    ),
    "report": Target(
        _run,
        ("config.json", "diagnostics/*/test/scores.npy", "diagnostics/*/test/labels.npy"),
        4,
        frozenset({"model", "data", "values"}),
        harmless=("missing",),
    ),
    "metrics": Target(_metrics, ("metrics.jsonl",), 20, harmless=("train_loss gone",)),
    "results": Target(_results, ("results.json",), 24, _OF_RESULTS, harmless=_MAY_BE_ABSENT),
    "origin": Target(  # a checkpoint may lie in no run folder
        _origin, ("run/config.json",), 12, _SETTINGS, harmless=("missing",)
    ),
    "hidden states": Target(
        _hidden_states,
        (
            "*/facts.json",
            "*/layout.json",
            "*/tokens.npy",
            "*/layer_2/manifest.json",
            "*/pooled/00000.npy",
        ),
        free=frozenset({"data"}),
    ),
    "verify": Target(_verify, ("cache/tiny/*/layout.json", "cache/tiny/*/pooled/00000.npy"), 6),
    "token store": Target(_token_store, ("*/manifest.json", "*/facts.json", "*/offsets.npy")),
    "candidates": Target(_candidates, ("frozen/*",), harmless=("missing",)),
    "item vectors": Target(
        _item_vectors,
        ("given.*", "codes.safetensors"),
        13,
        frozenset({"values"}),
        harmless=("as float64", "other byte order"),
    ),
    "sentence encoder": Target(
        _sentence_encoder,
        (
            "modules.json",
            "sentence_bert_config.json",
            "config_sentence_transformers.json",
            "[12]_*/config.json",
            "2_Dense/model.safetensors",
        ),
        8,
        frozenset({"idx", "name", "embedding_dimension", "text", "values"}),
        harmless=(
            "missing",
            "half a pair",
            "gone",
            "prompts.query is None",
            "_name is None",
            "max_seq_length is None",
        ),
        # the library has defaults for most
    ),
    "token table": Target(_token_table, ("table.safetensors",), 13),
    "pretrained": Target(_pretrained, ("pointer.json",), 12, harmless=("missing",)),
    "glm": Target(_glm, ("config.json",), 14),
    "answers": Target(
        _store,
        ("s.jsonl",),
        16,
        frozenset({"scheme", "parameters", "text", "time"}),
        harmless=("half a pair",),
    ),
    "quarantine": Target(
        _store,
        ("s.quarantine.jsonl",),
        12,
        frozenset({"scheme", "parameters", "text", "time", "final", "model", "source", "version"}),
        harmless=("half a pair",),
    ),
    "own data": Target(
        _own_data,
        ("items.csv", "users.csv", "events.jsonl"),
        8,
        frozenset({"ts"}),
        harmless=(
            *("half a pair", "first half", "without its end", "a key twice"),
            *(f"{name} is {number!r}" for name in _NAMED for number in (-1, 1.5, 10**30)),
            "event is True",
        ),
    ),
    "recbole": Target(
        _recbole,
        ("export.json", "HGN.json"),
        8,
        frozenset({"tables", "name"}),
        harmless=("hit@5 gone", "ndcg@5 gone"),  # metrics that were not measured
    ),
}
"""By name; every JSON, npy and safetensors file that some part of the toolkit writes and reads."""


def reseal(folder: Path, spoiled: Path) -> None:
    """Let the manifest of tables know the size of a spoiled file: it hides nothing else."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    if spoiled.is_file():
        manifest["files"][spoiled.relative_to(folder).as_posix()]["bytes"] = spoiled.stat().st_size
        path.write_text(json.dumps(manifest))

"""What cutting and caching a language model brings: DIRE (ONCE, WSDM 2024), measured end to end.

A language model reads every item's text. Its lower k layers never change, so what they compute is
cached once (`item.layer: k`), and a training step runs only the L - k layers above. Each section
measures one side of that on the books of ONCE (make them with `python -m process.goodreads once`;
where data/goodreads is not there, on a synthetic newsroom made for the purpose), prints both sides
and their ratio, and says PASS or MISS where there is a target:

  step    A training step cached at every k beside an uncut one. A layer costs the same wherever it
          is: forward, and backward to the layers below it (with LoRA through it, but not to its own
          frozen weights), so the layers' part of a step falls to (L - k) / L. What lies around
          them (looking up embeddings or reading states, the head, NAML, the optimizer) is measured
          with every layer taken out. Theory is that plus L - k layers; target: at most 1.25 of it.
          The sides take turns, medians count; on one CPU thread in CPU seconds.
  write   Tokens a second of caching (to files, with hashes) beside the bare model over the same
          batches, through as many layers (target: 0.9 of its speed) and through all.
  read    GB/s of reading the states of random items, which lie in memory already.
  dedup   An item that occurs twice in a batch is encoded once: how many encodings that saves, and
          how much of a step.
  size    The cache has a row a real token. Beside it every item as long as the longest (target: 0.6
          of that), as the published code stores it, always in float32.
  memory  Peak memory of a step whose items are encoded --page-size at a time (gradient caching,
          exp.train.item_page_size), and all at once; each in a process of its own. In float32 the
          gradients of both are compared, too.

With --shape instead: a LLaMA with random weights and texts of random ids, for GPUs. Everything
below its last two layers is cached, these are tuned with LoRA; FLOP/s are those of the matrix
products that ran, and their fraction of --peak-tflops.

    OMP_NUM_THREADS=1 python -m benchmarks.dire --quick
    OMP_NUM_THREADS=1 python -m benchmarks.dire --only step write --json dire.json
    python -m benchmarks.dire --shape 7b --device cuda --precision bf16
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.dire_cache import read_section, size_section, write_section
from benchmarks.dire_data import GOODREADS, made_tables
from benchmarks.dire_llama import SHAPES, shape_section
from benchmarks.dire_memory import memory_section, run_alone
from benchmarks.dire_setting import Options, Setting
from benchmarks.dire_step import dedup_section, step_section
from benchmarks.report import finish
from legos.errors import LegosError
from legos.files import write_json

SECTIONS: Mapping[str, Callable[[Setting], dict[str, Any]]] = {
    "step": step_section,
    "write": write_section,
    "read": read_section,
    "dedup": dedup_section,
    "size": size_section,
    "memory": memory_section,
}
_H200_PEAK = 989 * 0.8


def read_options(arguments: list[str]) -> Options:
    """The command line; what depends on other options is filled in."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.dire",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add(
        "--only", nargs="+", choices=SECTIONS, default=list(SECTIONS), help="sections; default: all"
    )
    add("--llm_ver", default="minilm", help="a name of config/llm.yaml (default: minilm)")
    add("--tables", type=Path, help="default: data/goodreads where it is, else a made newsroom")
    add("--data", help="the YAML of --tables, a name of config/data (default: goodreads)")
    add("--fields", nargs="+", help="default: title description; with --quick or a newsroom title")
    add("--device", default="cpu", help="cpu (default), cuda, cuda:1")
    add("--precision", choices=("fp32", "bf16"), default="fp32", help="weights, states, autocast")
    add("--tuning", choices=("lora", "full", "frozen"), default="lora", help="LoRA has rank 32")
    add("--layer", type=int, default=-1, help="where section memory cuts; 0: not (default: -1)")
    add("--batch-size", type=int, help="clicks a step, 4 negatives each (default: 64; --quick 16)")
    add("--page-size", type=int, default=64, help="items encoded at once, section memory")
    add("--items", type=int, help="of write and read (2000, --quick 300) or --shape (65,000)")
    add("--repeat", type=int, help="turns of each side (default: 5; --quick 2)")
    add("--quick", action="store_true", help="a few minutes on one core; ratios are rougher")
    add("--folder", type=Path, default=Path(tempfile.gettempdir()), help="for temporary caches")
    add("--json", type=Path, metavar="FILE", help="write every number to it")
    add("--shape", choices=SHAPES, help="a LLaMA with random weights; tiny: to try it on a CPU")
    add("--length", type=int, default=50, help="tokens a text, with --shape (default: 50)")
    add("--batch-tokens", type=int, default=16_384, help="read at once while caching")
    add(
        "--peak-tflops",
        type=float,
        default=_H200_PEAK,
        help="what the device can do (default: 791 = 80 %% of the 989 dense bf16 TFLOP/s that "
        "NVIDIA gives for H100 and H200, about what large matrix products reach there)",
    )
    add("--alone", nargs="+", default=[], help=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    quick, shape = given["quick"], given["shape"]
    items = {None: 300 if quick else 2000, "tiny": 300}.get(shape, 2000 if quick else 65_000)
    books = given["tables"] is not None or (GOODREADS / "manifest.json").is_file()
    given["data"] = given["data"] or ("goodreads" if books or shape else "newsroom")
    if books or shape:
        given["tables"] = given["tables"] or GOODREADS
    long = given["data"] == "goodreads" and not quick
    defaults = {
        "fields": ["title", "description"] if long else ["title"],
        "batch_size": 16 if quick and shape is None else 64,
        "items": items,
        "repeat": 2 if quick else 5,
    }
    for name, value in defaults.items():
        given[name] = value if given[name] is None else given[name]
    return Options(**given)


def main() -> None:
    """Run the sections asked for."""
    options = read_options(sys.argv[1:])
    try:
        if options.alone:
            run_alone(Setting(options))
        elif options.shape is not None:
            report(options, {f"shape {options.shape}": shape_section(options)})
        else:
            with made_tables(options) as options:
                setting = Setting(options)
                report(options, {name: SECTIONS[name](setting) for name in options.only})
    except LegosError as error:
        sys.exit(f"error: {error}")


def report(options: Options, results: dict[str, dict[str, Any]]) -> None:
    """The last line, and the file of all numbers."""
    if options.json is not None:
        chosen = {name: value for name, value in vars(options).items() if name != "alone"}
        shown = {
            name: str(value) if isinstance(value, Path) else value for name, value in chosen.items()
        }
        write_json(options.json, {"options": shown, **results})

    def column(key: str) -> dict[str, Any]:
        return {name: result[key] for name, result in results.items() if key in result}

    finish(
        name="dire",
        ours=column("ours"),
        other=column("other"),
        ratio=column("ratio"),
        target=column("target"),
        holds=all(result["holds"] for result in results.values()),
    )


if __name__ == "__main__":
    main()

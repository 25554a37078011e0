"""Whatever happens to a file of our own: exit code 2, one message, nothing changed on disk."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.fuzz.mutations import Mutation, mutations
from tests.fuzz.targets import TARGETS, Target, exit_code, reseal

SEED = 14
LEAST = 300


@pytest.mark.parametrize("kind", TARGETS)
def test_a_spoiled_file_is_one_message(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, rng = TARGETS[kind], random.Random(f"{SEED} {kind}")
    folder = tmp_path / "place"
    folder.mkdir()
    read = target.make(folder)
    assert exit_code(read) == 0, f"what was not spoiled is refused: {capsys.readouterr().err}"
    paths = sorted({path for pattern in target.files for path in folder.glob(pattern)})
    assert len(paths) >= len(target.files)
    faults: list[str] = []
    tried = 0
    for path in paths:
        free = target.free | ({"offsets"} if ".offsets" in path.name else frozenset())
        if any(name in path.name for name in target.free):
            free |= {"values"}
        for mutation in mutations(path, rng, count=target.count, free=frozenset(free)):
            fault = _fault(target, folder, path, mutation, read, capsys)
            tried += 1
            if fault:
                faults.append(f"{path.relative_to(folder)}: {mutation.name}: {fault}")
    print(f"{kind}: {tried} mutations")
    assert tried == target.count * len(paths)
    assert not faults, "\n".join([f"{len(faults)} of {tried}:", *faults])


def test_enough_mutations_are_tried() -> None:
    least = {kind: target.count * len(target.files) for kind, target in TARGETS.items()}
    print(f"{sum(least.values())} mutations or more: {least}")
    assert sum(least.values()) >= LEAST


def _fault(
    target: Target,
    folder: Path,
    path: Path,
    mutation: Mutation,
    read: object,
    capsys: pytest.CaptureFixture[str],
) -> str | None:
    """What is wrong with how a command took a spoiled file; the file is as before afterwards."""
    content, manifest = path.read_bytes(), folder / "manifest.json"
    sealed = manifest.read_bytes() if target.reseals else b""
    try:
        if mutation.content is None:
            path.unlink()
        else:
            path.write_bytes(mutation.content)
        if target.reseals:
            reseal(folder, path)
        before = _snapshot(folder)
        code = exit_code(read)  # type: ignore[arg-type]
        told = capsys.readouterr().err
        if code == 0 and (not mutation.fatal or mutation.name.endswith(target.harmless)):
            return None
        if code != 2:
            return f"exit code {code}: {told.strip()[:300]}"
        if told.count("error: ") != 1 or "Traceback" in told or not told.endswith("\n"):
            return f"not one message: {told[:300]}"
        if path.name not in told and path.parent.name not in told:
            return f"the message does not name the file: {told[:300]}"
        if _snapshot(folder) != before:
            return "something changed on disk"
        return None
    finally:
        path.write_bytes(content)
        if target.reseals:
            manifest.write_bytes(sealed)


def _snapshot(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("used", "lock")
    }

"""Pages that say where a part of a paper is here: every file and every name exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = {"cllm4rec": "legos/systems/cllm4rec", "genre": "", "recsysllm": "legos/systems/recsysllm"}
_FILE = r"`((?:[\w.*-]+/)*[\w.*-]+\.(?:py|yaml)|(?:[\w-]+/)+)`"
_NAMES = r"(?:: ((?:`[\w.]+`(?: \([^)]*\))?(?:, | and )?)+))?"  # directly behind a file


def cells(page: str) -> list[str]:
    """The last cell of each row of a map: what is here."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    text = re.split(r"^## .* → here$", text, flags=re.MULTILINE)[-1]
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    return [row.rstrip(" |").split(" | ")[-1] for row in rows]


def named(page: str) -> list[tuple[str, list[str]]]:
    """Files of the cells, and the classes, functions and methods that follow each."""
    found = [match for cell in cells(page) for match in re.findall(_FILE + _NAMES, cell)]
    return [(file, re.findall(r"`\.?(?:\w+\.)?(\w+)`", names)) for file, names in found]


@pytest.mark.parametrize("page", PAGES)
def test_files_and_names_of_a_map_are_there(page: str) -> None:
    files = named(page)
    assert sum(len(names) + 1 for _, names in files) > 30
    for file, names in files:
        folders = [ROOT / PAGES[page], ROOT]
        paths = [path for folder in folders for path in folder.glob(file.rstrip("/"))]
        assert paths, f"{page}: {file}"
        for name in names:
            text = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
            assert re.search(rf"(def|class) {name}\b", text), f"{file}: {name}"

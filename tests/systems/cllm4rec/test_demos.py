"""The demos of the public README, as docs/cllm4rec.md prints them, run as doctests.

GPT-2's tokenizer is not at hand everywhere. ``gpt2_part.json`` has its bytes and those of its
merges that the demos' sentences need, under their own numbers (OpenAI, MIT licence).
"""

from __future__ import annotations

import doctest
import json
import re
from pathlib import Path
from typing import Any

import pytest
import transformers

DOCS = Path(__file__).resolve().parents[3] / "docs" / "cllm4rec.md"
HERE = Path(__file__).parent
GOLDEN = json.loads((HERE / "golden.json").read_text(encoding="utf-8"))
TEXT = DOCS.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def part_of_gpt2(name: str) -> Any:
    assert name == "openai-community/gpt2"
    return transformers.PreTrainedTokenizerFast(tokenizer_file=str(HERE / "gpt2_part.json"))


def test_every_demo_prints_what_the_page_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers.AutoTokenizer, "from_pretrained", staticmethod(part_of_gpt2))
    names: dict[str, Any] = {}
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(verbose=False)
    examples = 0
    for number, block in enumerate(BLOCKS):  # later ones go on with the names of earlier ones
        test = parser.get_doctest(block, names, f"block {number}", str(DOCS), 0)
        examples += len(test.examples)
        told: list[str] = []
        failed = runner.run(test, out=told.append, clear_globs=False).failed
        assert not failed, "".join(told)
        names = test.globs
    assert examples > 40


def printed(after: str) -> list[int]:
    """Numbers of the tensor that the page prints after some words."""
    tensor = TEXT[TEXT.index(f"{after} tensor(") :].split("```")[0].split(">>>")[0]
    return [int(number) for number in re.findall(r"\d+", tensor)]


def test_the_page_has_the_numbers_of_the_readme() -> None:
    """``golden.json`` has them as the public README prints them."""
    collab = GOLDEN["readme_collab"]
    main = [number for row in collab["main_ids"] for number in row]
    assert printed("Main ids:") == main
    first = TEXT.index("Prompt ids: tensor(")
    prompts = [number for row in collab["prompt_ids"] for number in row]
    numbers = re.findall(r"\d+", TEXT[first : TEXT.index("Main ids:", first)].split(">>>")[0])
    assert [int(number) for number in numbers] == prompts
    assert str([15496, 11, 50258, 0, 8192, 345, 1775, 50269, 30]) in TEXT
    for row in GOLDEN["readme_content"]["prompt_ids"][:3]:
        assert re.search(r"\[" + r",\s+".join(map(str, row)) + r"\]", TEXT)
    for row in GOLDEN["readme_rec"]["prompt_ids"][:2]:
        tokens = [number for number in row if number]
        assert re.search(r"\[" + r",\s+".join(map(str, tokens)) + r"[,\]]", TEXT)
    for table in ("vocab", "user", "item"):
        for row in GOLDEN["readme_embed"][table]:
            assert re.search(r"\[\s*" + r",\s+".join(f"{value:.4f}" for value in row), TEXT)

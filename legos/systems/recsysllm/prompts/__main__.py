"""``python -m legos.systems.recsysllm.prompts [--family rating]``: list the templates."""

from __future__ import annotations

import argparse

from legos.systems.recsysllm.prompts import FAMILIES, builtin_prompts


def main() -> None:
    """Print one line a template."""
    parser = argparse.ArgumentParser(description="Prompt templates of RecSysLLM.")
    parser.add_argument("--family", choices=FAMILIES, help="only this family")
    print(builtin_prompts().listing(parser.parse_args().family))


if __name__ == "__main__":
    main()

"""Runs one RecBole model on an export and writes its results; for RecBole's environment alone.

python process/recbole/run_model.py data/recbole/amazon-beauty GRU4Rec [--set epochs=1] ...

It imports nothing of this toolkit, and RecBole by name alone. S3Rec is pretrained first.
``<model>.json`` beside the export then holds the metrics of the best epoch on valid and test, and
the hash of the events.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of python -m process.recbole export")
    parser.add_argument("model", help="RecBole model with a YAML in the folder")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="pairs",
        help="override a setting of the YAML; JSON values",
    )  # fmt: skip
    args = parser.parse_args()
    folder = args.folder.resolve()
    yamls = [folder / "shared.yaml", folder / f"{args.model}.yaml"]
    for path in yamls:
        if not path.is_file():
            parser.error(f"{path}: no such file; there are {', '.join(_names(folder))}")
    own = {key: _value(text) for key, _, text in (pair.partition("=") for pair in args.pairs)}
    own |= {"data_path": str(folder.parent), "checkpoint_dir": str(folder / "saved")}
    _trust_own_checkpoints()
    if args.model == "S3Rec":
        _run(args.model, folder.name, yamls, {**own, "train_stage": "pretrain"})
        own |= {"train_stage": "finetune", "pre_model_path": str(_newest(folder / "saved"))}
    result = _run(args.model, folder.name, yamls, own)
    content = {
        "model": args.model,
        "settings": {key: value for key, value in own.items() if isinstance(value, int | float)},
        "events": hashlib.sha256((folder / f"{folder.name}.inter").read_bytes()).hexdigest(),
        "valid_result": {key: float(value) for key, value in result["best_valid_result"].items()},
        "test_result": {key: float(value) for key, value in result["test_result"].items()},
    }
    part = folder / f"{args.model}.json.part"
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(part, folder / f"{args.model}.json")
    print(json.dumps(content["test_result"]))


def _run(model: str, dataset: str, yamls: list[Path], own: dict[str, Any]) -> dict[str, Any]:
    quick_start = import_module("recbole.quick_start")
    result: dict[str, Any] = quick_start.run_recbole(
        model=model, dataset=dataset, config_file_list=[str(path) for path in yamls],
        config_dict=own,
    )  # fmt: skip
    return result


def _trust_own_checkpoints() -> None:
    """RecBole saves its settings in a checkpoint; torch 2.6 and later reads tensors alone.

    The files are those that this very run wrote.
    """
    torch: Any = import_module("torch")
    load = torch.load

    def trusting(*args: Any, **settings: Any) -> Any:
        return load(*args, **{**settings, "weights_only": False})

    torch.load = trusting


def _newest(folder: Path) -> Path:
    """The last pretrained model of S3Rec."""
    return max(folder.glob("S3Rec-*-*.pth"), key=lambda path: path.stat().st_mtime)


def _names(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.yaml") if path.stem != "shared")


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()

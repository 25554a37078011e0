"""A model of RecBole, pass after pass, for ``benchmarks.beside_recbole``; in its environment.

It imports nothing of this toolkit. A pass appends a line of JSON to ``--output``: the pass, its CPU
seconds, the rows that it learned from and nDCG@10 on valid, all items ranked. With the checkpoint
beside it the next call continues where this one stopped.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import time
from importlib import import_module
from pathlib import Path
from typing import Any


def main() -> None:
    """Train and measure as many passes as are missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("export", type=Path, help="of python -m process.recbole export")
    parser.add_argument("--model", required=True, help="RecBole's name of it, such as SASRec")
    parser.add_argument("--output", type=Path, required=True, help="lines of JSON, one a pass")
    parser.add_argument("--passes", type=int, required=True)
    parser.add_argument("--settings", required=True, help="RecBole's, as a JSON object")
    args = parser.parse_args()
    torch: Any = import_module("torch")
    torch.set_num_threads(1)
    own = json.loads(args.settings)
    utils, data = import_module("recbole.utils"), import_module("recbole.data")
    files = [args.export / "shared.yaml", args.export / f"{args.model}.yaml"]
    config = import_module("recbole.config").Config(
        model=args.model, dataset=args.export.name, config_file_list=[str(file) for file in files],
        config_dict={**own, "data_path": str(args.export.parent.resolve()),
                     "checkpoint_dir": str(args.output.parent), "use_gpu": False},
    )  # fmt: skip
    utils.init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data.data_preparation(config, data.create_dataset(config))
    model = utils.get_model(args.model)(config, train._dataset)
    trainer = utils.get_trainer(config["MODEL_TYPE"], args.model)(config, model)
    checkpoint = args.output.with_suffix(".pt")
    done = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        done = state["passes"]
        model.load_state_dict(state["model"])
        trainer.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        train.generator.set_state(state["order"])
        random.setstate(ast.literal_eval(state["masks"]))
        lines = args.output.read_text(encoding="utf-8").splitlines(keepends=True)
        args.output.write_text("".join(lines[:done]), encoding="utf-8")
    for number in range(done + 1, args.passes + 1):
        begin = time.process_time()
        loss = trainer._train_epoch(train, number, show_progress=False)
        seconds = time.process_time() - begin
        result = trainer.evaluate(valid, load_best_model=False, show_progress=False)
        line = {
            "pass": number,
            "seconds": seconds,
            "rows": len(train._dataset),
            "loss": float(loss),
            "nDCG@10": float(result["ndcg@10"]),
        }
        state = {
            "passes": number,
            "model": model.state_dict(),
            "optimizer": trainer.optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "order": train.generator.get_state(),
            "masks": repr(random.getstate()),  # BERT4Rec's
        }
        part = checkpoint.with_suffix(".part")
        torch.save(state, part)
        with args.output.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        os.replace(part, checkpoint)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()

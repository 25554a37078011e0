"""Vectors of a run as files: Parquet for anybody, and a FAISS index over those of items."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from legos.errors import ConfigError
from legos.files import atomic_folder, write_json
from legos.lm.states import unit_rows
from legos.recommend.run import TrainedRun

FACTS = "vectors.json"


def write_vectors(run: TrainedRun, folder: Path, *, index: bool = False) -> dict[str, int]:
    """Write the vectors of a run into a folder, whole or not at all.

    Args:
        run: whose.
        folder: an earlier one of this command is replaced.
        index: write ``items.faiss`` and ``items.json``, the ids of its rows, too: exact inner
            products, of vectors of length 1 where scores are cosines.

    Returns:
        By file how many vectors.

    Raises:
        ConfigError: the model has no vectors of items, or the folder holds something else.
        ModuleNotFoundError: FAISS is not installed.
    """
    if folder.exists() and not (folder / FACTS).is_file() and any(folder.iterdir()):
        raise ConfigError(
            f"--output {folder}: already exists and holds no vectors (no {FACTS}), so it will not "
            "be replaced; choose another folder"
        )
    if index:
        import faiss
    items, similarity = run.item_vectors(), run.catalogue.model.similarity
    counts = {"items.parquet": len(items)}
    users = _users(run)
    with atomic_folder(folder) as part:
        _write(part / "items.parquet", items)
        if users is not None:
            counts["users.parquet"] = len(users)
            _write(part / "users.parquet", users)
        if index:
            counts["items.faiss"] = len(items)
            vectors = np.ascontiguousarray(items.to_numpy(np.float32))
            if similarity == "cosine":
                vectors = unit_rows(vectors)
            flat = faiss.IndexFlatIP(vectors.shape[1])
            flat.add(vectors)
            faiss.write_index(flat, str(part / "items.faiss"))
            write_json(part / "items.json", items.index.tolist())
        write_json(part / FACTS, {"run": run.folder.name, "model": run.name, "scores": similarity})
    return counts


def _users(run: TrainedRun) -> pd.DataFrame | None:
    """Vectors of users; None where the model makes none of a user alone."""
    try:
        return run.user_vectors()
    except ConfigError:
        return None


def _write(path: Path, vectors: pd.DataFrame) -> None:
    """The index and a column ``vector`` of lists of float32."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = vectors.index.to_frame(index=False)
    flat = pa.array(np.ascontiguousarray(vectors.to_numpy(np.float32)).reshape(-1))
    columns: dict[str, Any] = {str(name): pa.array(names[name]) for name in names}
    columns["vector"] = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1])
    pq.write_table(pa.table(columns), path)

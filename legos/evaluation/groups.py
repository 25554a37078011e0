"""Metrics of every group of a measurement on disk, for paired tests of significance.

``groups-<metric>.npy`` is ``(G,)`` float64, NaN where the metric is undefined. Those of a model lie
in the folder of the split, those of a baseline in a folder of its name below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from legos.errors import DataError
from legos.files import write_array
from legos.records import read_array

_AGAIN = "delete results.json of the run, and the same command measures again"
_PREFIX = "groups-"


def write_groups(folder: Path, groups: Mapping[str, np.ndarray]) -> None:
    """Write per metric its value in each group; the folder exists afterwards."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, values in groups.items():
        write_array(folder / f"{_PREFIX}{name}.npy", values)


def read_groups(folders: Sequence[Path]) -> dict[str, np.ndarray]:
    """Per metric its value in each group ``(G,)``, mean over folders (runs of other seeds).

    Raises:
        DataError: a file is damaged, or the folders have other numbers of groups.
    """
    values: dict[str, list[np.ndarray]] = {}
    for folder in folders:
        for path in sorted(folder.glob(f"{_PREFIX}*.npy")):
            name = path.stem.removeprefix(_PREFIX)
            values.setdefault(name, []).append(
                read_array(path, dtype="float64", shape=(None,), hint=_AGAIN)
            )
    for name, each in values.items():
        if len({len(array) for array in each}) > 1:
            raise DataError(
                f"{folders[0]}: {name} of {len(each[0]):,} groups, but the "
                f"runs of other seeds have {', '.join(f'{len(a):,}' for a in each[1:])}; {_AGAIN}"
            )
    return {name: np.mean(each, axis=0) for name, each in values.items()}

"""legos: content-based recommenders assembled from bricks by YAML.

Shape letters, used in every signature and on every line that changes a shape:

    B batch · C candidates · H history · F fields · T tokens of an item · P tokens of all items
    (packed) · D hidden size · E width of pretrained vectors · L layers · N items · K negatives

Nothing here imports torch: ``worker.py --help`` must answer at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from legos.recommend.run import TrainedRun

__version__ = "0.9.0"


def open(
    run: str | Path,
    *,
    data: str | Path | None = None,
    device: str = "auto",
    settings: Mapping[str, Any] | None = None,
) -> TrainedRun:
    """Open a trained run as a recommender; see :func:`legos.recommend.open.open_run`."""
    opened: TrainedRun = resolve_name("legos.recommend.open:open_run")(
        run, data=data, device=device, settings=settings
    )
    return opened

"""legos: content-based recommenders assembled from bricks by YAML.

Shape letters, used in every signature and on every line that changes a shape:

    B batch · C candidates · H history · F fields · T tokens of an item · P tokens of all items
    (packed) · D hidden size · E width of pretrained vectors · L layers · N items · K negatives

Nothing here imports torch: ``worker.py --help`` must answer at once.
"""

from __future__ import annotations

__version__ = "0.1.0"

"""The vectors of users and items: one set for interactions (l), one for texts (c)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from legos.errors import CheckpointError
from legos.files import atomic_path
from legos.systems.cllm4rec.vocabulary import Vocabulary


class SoftTables(nn.Module):
    """Two trained tables in the width of the backbone's token vectors.

    Args:
        vocabulary: how many users and items.
        width: D.
        std: entries are drawn from N(0, std^2) (0.02 in GPT-2; the paper's prior is
            N(0, 1 / lambda_l)).
        generator: draws them; the global one where there is none.

    Attributes:
        user: ``(I, D)`` embedding.
        item: ``(J, D)`` embedding, whose weight is the item head's too.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        *,
        width: int,
        std: float,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.vocabulary = vocabulary
        self.user = nn.Embedding(vocabulary.users, width, device="meta").to_empty(device="cpu")
        self.item = nn.Embedding(vocabulary.items, width, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            for table in (self.user, self.item):
                table.weight.normal_(0.0, std, generator=generator)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over shapes and fp32 values."""
        return _fingerprint(self.user.weight, self.item.weight)

    def save(self, path: Path, *, name: str) -> None:
        """Write both tables and their fingerprint as safetensors, whole or not at all.

        Args:
            path: the file.
            name: which set this is, `collaborative` or `content`; :meth:`load` refuses another.
        """
        tensors = {
            "user": self.user.weight.detach().cpu().contiguous(),
            "item": self.item.weight.detach().cpu().contiguous(),
        }
        facts = {"name": name, "fingerprint": self.fingerprint}
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=facts)

    def load(self, path: Path, *, name: str) -> None:
        """Take both tables from a file that :meth:`save` wrote.

        Raises:
            CheckpointError: missing, damaged, of another set, or for other users and items.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata() or {}
                user, item = file.get_tensor("user"), file.get_tensor("item")
        except (OSError, SafetensorError) as error:
            raise CheckpointError(f"{path}: cannot be read as soft tables ({error})") from None
        if facts.get("name") != name:
            raise CheckpointError(f"{path}: holds tables {facts.get('name')!r}, expected {name!r}")
        if facts.get("fingerprint") != _fingerprint(user, item):
            raise CheckpointError(f"{path}: damaged, its values differ from what was written")
        for kind, found, table in (("users", user, self.user), ("items", item, self.item)):
            if found.shape != table.weight.shape:
                raise CheckpointError(
                    f"{path}: {kind} of shape {tuple(found.shape)}, this model has "
                    f"{tuple(table.weight.shape)}"
                )
        with torch.no_grad():
            self.user.weight.copy_(user)
            self.item.weight.copy_(item)


def _fingerprint(user: Tensor, item: Tensor) -> str:
    digest = hashlib.sha256()
    for table in (user, item):
        digest.update(str(tuple(table.shape)).encode())
        digest.update(table.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()

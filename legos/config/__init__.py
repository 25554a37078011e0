"""YAMLs and command lines → one checked :class:`~legos.config.schema.RunConfig`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from legos.config.schema import RunConfig


def resolved_dict(config: RunConfig) -> dict[str, Any]:
    """A configuration as plain values for JSON; ``RunConfig.model_validate`` reads it back."""
    return config.model_dump(mode="json")

"""Mode ``cache``: compute the hidden states of a language model over a data set, and keep them."""

from __future__ import annotations

import time
from typing import Any

from accelerate import Accelerator
from rich.console import Console

from legos.config.schema import RunConfig
from legos.data.tables import Tables
from legos.lm.load import LanguageModel
from legos.lm.states import POOLED
from legos.sharing import Sharing
from legos.terminal import shown_bytes
from legos.workplace.language import (
    Reading,
    language_model_settings,
    no_language_model,
    refuse_other_width,
)


def cache_states(config: RunConfig, accelerator: Accelerator, console: Console) -> dict[str, Any]:
    """Write the layers of ``exp.cache`` for the items of the data YAML, in one pass.

    Processes share the shards. What already exists is not computed again; a killed run goes on
    where it was, with any number of processes.

    Returns:
        layers, items, tokens, bytes and seconds.

    Raises:
        ConfigError: the model has no language model, or no such layer.
        DataError: a state is not finite, or a finished part is damaged.
    """
    settings = language_model_settings(config.model)
    if settings is None:
        raise no_language_model(config.bricks)
    sharing = Sharing.between(accelerator)
    model = LanguageModel(settings.model, settings, bidirectional=settings.bidirectional)
    refuse_other_width(config, model)
    reading = Reading.of(config, Tables.load(config.data.folder), model)
    wanted = config.exp.cache
    parts = {reading.layer(layer).name: reading.layer(layer) for layer in wanted.layers}
    if wanted.pooled:
        parts[POOLED] = reading.pooled()
    finished = sharing.first(reading.cache.parts)
    missing = [part for name, part in parts.items() if name not in finished]
    size = reading.cache.size(reading.tokens, missing, reading.dtype)
    tokens = reading.tokens.values.numel()
    console.print(
        f"{model.name} on {config.data.name}: {len(reading.tokens):,} items, {tokens:,} tokens; "
        f"{', '.join(part.name for part in missing) or 'nothing'} to compute, "
        f"{shown_bytes(size)} as {reading.dtype}, into {reading.cache.path}",
        soft_wrap=True,
    )
    begin = time.monotonic()
    reading.write(missing, accelerator.device, batch_tokens=wanted.batch_tokens, sharing=sharing)
    seconds = time.monotonic() - begin
    if sharing.is_first:
        for name in parts:
            reading.cache.open(name)
    if missing:
        console.print(f"{seconds:.1f} s, {tokens / seconds:,.0f} tokens a second")
    console.print(f"cached and verified: {', '.join(parts)}")
    return {
        "folder": str(reading.cache.path),
        "parts": list(parts),
        "computed": [part.name for part in missing],
        "items": len(reading.tokens),
        "tokens": tokens,
        "bytes": size,
        "seconds": seconds,
    }

"""The load audit: what a language model's files filled, lack, and hold unread.

transformers fills what a file lacks with random numbers and leaves out what a model has no place
for; both end in a warning. Here both are refused, apart from what nobody reads: poolers, heads of
other tasks, other modalities. Some rows of every tensor are compared with the file's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from legos.errors import ConfigError
from legos.lm.locate import Located
from legos.lm.weight_files import (
    StoredTensor,
    base_prefix,
    rows_of,
    sampled_rows,
    stored_as,
    stored_tensors,
)

_UNREAD = frozenset({"pooler", "contact_head"})  # parts of base models that no text state passes
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")
_WRAPPERS = {  # what writes tensors under longer names, and how to undo that
    "base_model.model.": "peft's names; merge_and_unload() and save_pretrained() write the model's",
    "module.": "DataParallel's names; save model.module instead of model",
    "_orig_mod.": "torch.compile's names; save model._orig_mod instead of model",
}


@dataclass(frozen=True)
class LoadReport:
    """How many tensors the files filled, and names in them that the model has no place for."""

    found: int
    unused: tuple[str, ...] = ()

    def __str__(self) -> str:
        """``71 found, 5 unused (cls)``."""
        if not self.unused:
            return f"{self.found:,} found, none unused"
        groups = sorted({_group(name) for name in self.unused})
        return f"{self.found:,} found, {len(self.unused):,} unused ({', '.join(groups)})"


def load_audited(
    kind: Any,
    located: Located,
    *,
    name: str,
    part: Callable[[Any], nn.Module],
    **options: Any,
) -> tuple[Any, LoadReport]:
    """Load a model and refuse it unless its files fill it.

    Args:
        kind: an auto class of transformers, such as ``AutoModel``.
        located: the model's files.
        name: of the model, for errors.
        part: the module of the loaded model that reads text; the others may lack tensors.
        options: of ``from_pretrained``; ``device_map="meta"`` reads headers alone.

    Raises:
        ConfigError: tensors are missing, have other shapes or other numbers than the files, or
            the files hold layers that the model has no place for.
    """
    stored = stored_tensors(located.folder) if located.gguf is None else {}
    model, told = kind.from_pretrained(
        str(located.folder),
        local_files_only=True,
        use_safetensors=None if located.gguf else True,
        trust_remote_code=False,  # see legos.lm.load
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # or the first one raises with a pointer to a silenced log
        **located.arguments,
        **options,
    )
    audit = _Audit(name, located, model, model.state_dict(), _names_of(model, part(model)), stored)
    audit.refuse_mismatched(told["mismatched_keys"])
    audit.refuse_missing(told["missing_keys"])
    audit.refuse_unused(told["unexpected_keys"])
    audit.refuse_other_numbers()
    lost = len(told["missing_keys"])
    return model, LoadReport(len(audit.own) - lost, tuple(sorted(told["unexpected_keys"])))


@dataclass(frozen=True)
class _Audit:
    """One load."""

    name: str
    located: Located
    model: Any
    own: Mapping[str, Tensor]  # tensors of the model, in its order
    read: frozenset[str]  # names of those that its text states pass
    stored: Mapping[str, StoredTensor]  # tensors of its files; empty for GGUF

    def refuse_mismatched(
        self, mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]]
    ) -> None:
        """Refuse tensors of another shape than the configuration asks for."""
        found = sorted(
            (name, tuple(file), tuple(wanted))
            for name, file, wanted in mismatched
            if name in self.read and not _is_unread(name)
        )
        if found:
            name, file, wanted = found[0]
            raise self._refused(
                f"{len(found)} of {len(self.own)} tensors of {self._kind} have another shape than "
                f"its config.json asks for, first {name}: {list(file)} in its files, "
                f"{list(wanted)} by its config.json; do both belong to one model?"
            )

    def refuse_missing(self, missing: Iterable[str]) -> None:
        """Refuse tensors that no file filled: they hold random numbers."""
        lost = self.read & set(missing)
        refused = [
            name
            for name in self.own
            if name in lost and not _is_unread(name) and not self._is_derived(name)
        ]
        if refused:
            raise self._refused(
                f"{len(refused)} of {len(self.own)} tensors of {self._kind} are missing from its "
                f"files and would be random, first {refused[0]}; "
                + describe_instead(refused, list(self.own), list(self.stored))
            )

    def refuse_unused(self, unexpected: Iterable[str]) -> None:
        """Refuse weights of the model's own parts that it has no place for."""
        prefix = base_prefix(self.model)
        modules = {parent for own in self.read for parent in _parents(_NUMBER.sub("*", own))}
        numbered = {module for module in modules if module.endswith(".*")}
        holders = {parent for module in numbered for parent in ["", *_parents(module)]}
        inside = modules - holders
        cut = [
            name
            for name in sorted(unexpected, key=_natural)
            if (name not in self.stored or self.stored[name].is_weight)
            and any(
                set(_parents(_NUMBER.sub("*", form))) & (inside | numbered)
                or _is_position(form, holders)
                for form in (name, name.removeprefix(prefix))
            )
        ]
        if cut:
            why = _layers_apart(cut, list(self.own), list(self.stored))
            raise self._refused(
                f"its files hold {len(cut)} tensors that {self._kind} has no place for as its "
                f"config.json describes it, first {cut[0]}; "
                f"{why or 'without them it is another model; do both belong together?'}"
            )

    def refuse_other_numbers(self) -> None:
        """Compare rows of every tensor that has the file's name with the file's."""
        if not self.stored or getattr(self.model, "quantization_method", None):
            return
        converted = _converted_names(self.model)
        pairs = {
            file: tensor
            for name, tensor in self.own.items()
            if (file := stored_as(self.stored, name, self.model)) is not None
            and file.dtype in ("F64", "F32", "F16", "BF16")
            and file.shape == tuple(tensor.shape)
            and tensor.device.type != "meta"
            and not any(pattern.search(file.name) for pattern in converted)
        }
        for file, wanted in sampled_rows(pairs):
            found = rows_of(pairs[file])
            if not torch.equal(found.nan_to_num(), wanted.to(found.dtype).nan_to_num()):
                raise self._refused(
                    f"{file.name} was loaded with other numbers than {file.file.name} holds"
                )

    @property
    def _kind(self) -> str:
        return type(self.model).__name__

    def _is_derived(self, name: str) -> bool:
        """A buffer of integers is computed, not learned; a tied weight has another name."""
        tensor = self.own[name]
        tied = getattr(self.model, "all_tied_weights_keys", None) or {}
        return not tensor.is_floating_point() or name.endswith("inv_freq") or name in tied

    def _refused(self, what: str) -> ConfigError:
        return ConfigError(f"language model {self.name!r} ({self.located.folder}): {what}")


def describe_instead(missing: Sequence[str], own: Sequence[str], files: Sequence[str]) -> str:
    """What ``files`` hold instead of the tensors that a model of tensors ``own`` misses."""
    first = missing[0]
    if not files:
        return "the file holds nothing under a name that stands for it"
    known = {name.replace(".base_layer.", "."): None for name in files}  # peft's addition inside
    prefix = next((f.removesuffix(first) for f in known if f.endswith(f".{first}")), None)
    if prefix is not None:
        count = sum(prefix + name in known for name in missing)
        if 2 * count >= len(missing):
            made_by = [why for start, why in _WRAPPERS.items() if prefix.startswith(start)]
            how = f", {made_by[0]}" if made_by else "; rename them"
            return f"{count} of them are there under the prefix {prefix!r}{how}"
    prefix = next((first.removesuffix(f) for f in files if first.endswith(f".{f}")), None)
    if prefix is not None:
        count = sum(name.removeprefix(prefix) in set(files) for name in missing)
        if 2 * count >= len(missing):
            return f"{count} of them are there without the prefix {prefix!r}; rename them"
    layers = _layers_apart(missing, own, files)
    unread = sorted(set(files) - set(own)) or files
    close = get_close_matches(first, unread, n=1, cutoff=0.3)
    nearest = f"the nearest name in its files is {close[0] if close else unread[0]}"
    return f"{layers}; {nearest}" if layers else nearest


def _layers_apart(names: Sequence[str], own: Sequence[str], files: Sequence[str]) -> str | None:
    """How many layers model and files have; None where they have as many, or none is concerned."""
    place = _NUMBER.search(names[0])
    if place is None:
        return None
    stack = names[0][: place.start()]
    if not any(name.startswith(stack) for name in own):
        stack = stack.partition(".")[2]  # files may have the model's name before it
    wanted, stored = _count(own, stack), _count(files, stack)
    if not stack or stored == wanted:
        return None
    return f"its files hold {stored} layers {stack}*, its config.json asks for {wanted}"


def _count(names: Iterable[str], stack: str) -> int:
    """How many numbers follow a stack's name."""
    inside = (f".{name}".partition(f".{stack}")[2].partition(".")[0] for name in names)
    return len({number for number in inside if number.isdigit()})


def _names_of(model: nn.Module, part: nn.Module) -> frozenset[str]:
    """Names of a model's tensors that belong to a part of it."""
    if part is model:
        return frozenset(model.state_dict())
    inside = {id(tensor) for tensor in (*part.parameters(), *part.buffers())}
    tensors = (*model.named_parameters(remove_duplicate=False), *model.named_buffers())
    return frozenset(name for name, tensor in tensors if id(tensor) in inside)


def _converted_names(model: Any) -> list[re.Pattern[str]]:
    """Names whose tensors transformers computes from the file's (experts stacked to one)."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    return [
        re.compile(str(pattern).replace("*", r"\d+"))
        for conversion in get_model_conversion_mapping(model)
        if type(conversion).__name__ != "WeightRenaming"
        for pattern in getattr(conversion, "source_patterns", ())
    ]


def _parents(name: str) -> list[str]:
    """``a.b.c`` -> ``a``, ``a.b``."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _is_unread(name: str) -> bool:
    return not _UNREAD.isdisjoint(name.split("."))


def _is_position(name: str, holders: set[str]) -> bool:
    """Whether it is a table of positions beside the layers."""
    module, _, _ = name.rpartition(".")
    holder, _, own = module.rpartition(".")
    return holder in holders and ("position" in own or own == "wpe")


def _group(name: str) -> str:
    parts = name.split(".")
    return ".".join(parts[:2]) if parts[0] in ("model", "transformer") else parts[0]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]

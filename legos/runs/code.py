"""What the code of a model's bricks computes, as a hash: another code is another run.

Comments, docstrings and layout do not count. A brick outside the toolkit counts with the modules
that it imports, as far as these are neither the toolkit's nor installed packages.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from legos.config.checks import brick_class
from legos.errors import ConfigError
from legos.files import sha256_of_text
from legos.registry import bricks_in

_TOOLKIT, _CODE = "legos", "code of "


def code_of_bricks(model: BaseModel) -> dict[str, str]:
    """By name of each brick in a model's settings the hash of its code, of namesakes together."""
    modules: dict[str, list[str]] = {}
    for _, brick in bricks_in(model):
        module = (brick_class(brick) or type(brick)).__module__
        modules.setdefault(brick.name, []).append(module)
    return {f"{_CODE}{name}": _code(found) for name, found in modules.items()}


def is_code(key: str) -> bool:
    """Whether a key of the sources names the code of a brick."""
    return key.startswith(_CODE)


def _code(modules: list[str]) -> str:
    trees: dict[str, ast.Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in trees or file is None or not file.endswith(".py"):
            continue
        trees[name] = _read_syntax(Path(file))
        package = str(getattr(sys.modules[name], "__package__", "") or "")
        waiting += [each for each in _imported(trees[name], package) if _is_a_users(each)]
    return sha256_of_text("\n".join(ast.dump(trees[name]) for name in sorted(trees)))


def _read_syntax(path: Path) -> ast.Module:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(
            f"{path}: changed since it was imported and not Python ({error})"
        ) from None
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not _is_text(each)]  # type: ignore[attr-defined]
    return tree


def _is_text(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _imported(tree: ast.Module, package: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")
            above = parents[: len(parents) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _is_a_users(module: str) -> bool:
    top = module.split(".")[0]
    if top == _TOOLKIT or top in sys.stdlib_module_names or module not in sys.modules:
        return False
    file = getattr(sys.modules[module], "__file__", None)
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")]
    return file is not None and not any(
        Path(file).resolve().is_relative_to(folder) for folder in installed
    )

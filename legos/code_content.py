"""The content of code as a hash: of modules and of what they import from where they come from.

Comments and docstrings do not count, nor what is installed beside the user's own code.
"""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from legos.errors import ConfigError
from legos.files import sha256_of_text

_TOOLKIT = "legos"


def code_content(modules: Iterable[str], *, package: str = "") -> str:
    """A hash over the code of imported modules.

    Args:
        modules: names; what they import is followed where it is the user's own.
        package: a top-level package whose modules are followed, too, wherever it is installed.

    Raises:
        ConfigError: a file was changed since and is not Python any more.
    """
    trees: dict[str, ast.Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        file = getattr(sys.modules.get(name), "__file__", None)
        if name in trees or file is None or not file.endswith(".py"):
            continue
        trees[name] = _read_syntax(Path(file))
        around = str(getattr(sys.modules[name], "__package__", "") or "")
        waiting += [each for each in _imported(trees[name], around) if _is_a_users(each, package)]
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


def _is_a_users(module: str, package: str) -> bool:
    top = module.split(".")[0]
    if top == _TOOLKIT or top in sys.stdlib_module_names or module not in sys.modules:
        return False
    if top == package:
        return True
    file = getattr(sys.modules[module], "__file__", None)
    installed = [Path(sysconfig.get_path(kind)).resolve() for kind in ("purelib", "platlib")]
    return file is not None and not any(
        Path(file).resolve().is_relative_to(folder) for folder in installed
    )

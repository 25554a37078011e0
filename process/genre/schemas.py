"""JSON schemas of answers: checked before they are used, and never fetched from anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

_REFERENCES = ("$ref", "$dynamicRef")
_NOTHING_TO_FETCH: Registry[Any] = Registry()


def validator_of(schema: Mapping[str, Any]) -> Draft202012Validator:
    """A validator that resolves references inside the schema alone."""
    return Draft202012Validator(schema, registry=_NOTHING_TO_FETCH)


def check_schema(schema: Mapping[str, Any]) -> None:
    """Refuse what no answer could be checked with.

    Raises:
        ValueError: it is no JSON schema, or refers to something outside of itself, to nothing, or
            to itself without an end.
    """
    for name, target in _references(schema):
        if not (isinstance(target, str) and target.startswith("#")):
            raise ValueError(
                f"{name} {target!r}: expected a part of this schema (#/$defs/NAME); nothing is "
                "fetched from a network or another file"
            )
    try:
        Draft202012Validator.check_schema(
            schema, format_checker=Draft202012Validator.FORMAT_CHECKER
        )
        for sample in ({}, dict.fromkeys(schema.get("properties", {}), "")):
            list(validator_of(schema).iter_errors(sample))
    except SchemaError as error:
        raise ValueError(f"no valid JSON schema ({error.message})") from None
    except Unresolvable as error:
        raise ValueError(f"no valid JSON schema: {error.ref!r} points to nothing") from None
    except RecursionError:
        raise ValueError("no valid JSON schema: it refers to itself without an end") from None


def _references(schema: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(schema, dict):
        for name, part in schema.items():
            if name in _REFERENCES:
                yield name, part
            yield from _references(part)
    elif isinstance(schema, list):
        for part in schema:
            yield from _references(part)

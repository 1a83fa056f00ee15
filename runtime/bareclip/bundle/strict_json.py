"""Dataclasses from parsed JSON: what is unknown, missing or of another type is refused by name."""

import dataclasses
import types
import typing
from typing import Any, Literal

from ..errors import BundleError


def from_json(kind: Any, data: Any, where: str) -> Any:
    """Builds a value from parsed JSON.

    Args:
        kind: A dataclass, or a type that fields of one may have.
        data: What was parsed.
        where: What messages call its place.

    Returns:
        The value; a field that has a default may be missing.

    Raises:
        BundleError: It is of another type, or an object with too few or too many fields.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _dataclass(typing.cast(type, kind), data, where)
    if origin is Literal:
        if data in arguments:
            return data
        raise BundleError(
            f"unsupported value {data!r} at {where}; this bareclip knows "
            f"{', '.join(map(repr, arguments))}: update bareclip"
        )
    if origin is types.UnionType:
        return None if data is None else from_json(arguments[0], data, where)
    if origin is dict and isinstance(data, dict):
        return {k: from_json(arguments[1], v, f"{where}: {k}") for k, v in data.items()}
    if origin is tuple and isinstance(data, list):
        variadic = arguments[-1] is Ellipsis
        if variadic or len(arguments) == len(data):
            return tuple(from_json(arguments[0], item, where) for item in data)
    if kind is float and type(data) in (int, float) and abs(data) < 1e300:
        return float(data)
    if kind is int and type(data) is int and abs(data) < 2**63:
        return data
    if kind in (str, bool) and type(data) is kind:
        return data
    raise BundleError(f"{where} holds {data!r}, not a valid {kind}; export the bundle again")


def _dataclass(kind: type, data: Any, where: str) -> Any:
    if not isinstance(data, dict):
        raise BundleError(f"{where} holds {data!r}, not an object; export the bundle again")
    hints = typing.get_type_hints(kind)
    fields = [f for f in dataclasses.fields(kind) if f.metadata.get("in_manifest", True)]
    unknown = set(data) - {f.name for f in fields}
    missing = {f.name for f in fields if f.default is dataclasses.MISSING} - set(data)
    if unknown:
        raise BundleError(f"unknown field {min(unknown)!r} in {where}; update bareclip")
    if missing:
        raise BundleError(f"field {min(missing)!r} is missing in {where}; export the bundle again")
    return kind(
        **{name: from_json(hints[name], value, f"{where}: {name}") for name, value in data.items()}
    )

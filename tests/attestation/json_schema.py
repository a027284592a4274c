"""A validator for those keywords of JSON Schema (draft 2020-12) that our schema uses; others are refused."""

import re
from collections.abc import Callable
from typing import Any

ANNOTATIONS = {"$schema", "$defs", "title", "description", "default", "contentEncoding"}
HANDLED = ANNOTATIONS | {"$ref", "if", "then", "else", "additionalProperties"}
TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "object": (dict,),
    "string": (str,),
}


def is_valid(value: Any, schema: dict[str, Any], root: dict[str, Any] | None = None) -> bool:
    """Tell whether a JSON value satisfies `schema`."""
    whole = root or schema

    def holds(value: Any, schema: dict[str, Any]) -> bool:
        return is_valid(value, schema, whole)

    if "$ref" in schema and not holds(value, whole["$defs"][schema["$ref"].removeprefix("#/$defs/")]):
        return False
    if "if" in schema and not holds(value, schema.get("then" if holds(value, schema["if"]) else "else", {})):
        return False
    is_closed = schema.get("additionalProperties") is False and isinstance(value, dict)
    if is_closed and not value.keys() <= schema["properties"].keys():
        return False
    return all(
        KEYWORDS[keyword](value, asked, holds) for keyword, asked in schema.items() if keyword not in HANDLED
    )


Holds = Callable[[Any, dict[str, Any]], bool]


def _is_of(value: Any, name: str) -> bool:
    return isinstance(value, TYPES[name]) and (name == "boolean" or not isinstance(value, bool))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


KEYWORDS: dict[str, Callable[[Any, Any, Holds], bool]] = {
    "type": lambda value, asked, _: _is_of(value, asked),
    "const": lambda value, asked, _: _same(value, asked),
    "enum": lambda value, asked, _: any(_same(value, one) for one in asked),
    "pattern": lambda value, asked, _: (
        not isinstance(value, str) or re.search(ecma(asked), value) is not None
    ),
    "minLength": lambda value, asked, _: not isinstance(value, str) or len(value) >= asked,
    "maxLength": lambda value, asked, _: not isinstance(value, str) or len(value) <= asked,
    "minimum": lambda value, asked, _: not _is_of(value, "integer") or value >= asked,
    "maximum": lambda value, asked, _: not _is_of(value, "integer") or value <= asked,
    "minItems": lambda value, asked, _: not isinstance(value, list) or len(value) >= asked,
    "maxItems": lambda value, asked, _: not isinstance(value, list) or len(value) <= asked,
    "uniqueItems": lambda value, asked, _: (
        not isinstance(value, list) or all(one not in value[:place] for place, one in enumerate(value))
    ),
    "items": lambda value, asked, holds: (
        not isinstance(value, list) or all(holds(item, asked) for item in value)
    ),
    "properties": lambda value, asked, holds: (
        not isinstance(value, dict)
        or all(holds(value[name], schema) for name, schema in asked.items() if name in value)
    ),
    "required": lambda value, asked, _: not isinstance(value, dict) or all(name in value for name in asked),
    "allOf": lambda value, asked, holds: all(holds(value, one) for one in asked),
    "anyOf": lambda value, asked, holds: any(holds(value, one) for one in asked),
    "oneOf": lambda value, asked, holds: sum(holds(value, one) for one in asked) == 1,
    "not": lambda value, asked, holds: not holds(value, asked),
}


def ecma(pattern: str) -> str:
    """Return a pattern of ECMA 262 as Python has it: there ``$`` is the very end."""
    return pattern.replace("$", r"\Z")

"""Policies as documents: TOML or JSON in, TOML out; strict, and never re-serialised for a digest.

Source: docs/spec/policy.md.
"""

import base64
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

import msgspec

from s3ml.attestation.policy.alternative import Alternative, AppraisalPolicy
from s3ml.attestation.policy.fields import FIELDS
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB

POLICY_LIMIT_BYTES = 64 * KIB
KEY_PARTS_LIMIT = 8

# tomllib takes seconds for one key of thousands of parts; policies have keys of two at most.
_FURTHER_PART = r"""\.[ \t]*(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
_DEEP_KEY = re.compile(f"(?:{_FURTHER_PART}){{{KEY_PARTS_LIMIT}}}")


def parse_policy(data: bytes) -> AppraisalPolicy:
    """Parse a policy in TOML, or in JSON where the first character is a brace.

    Args:
        data: UTF-8, at most 64 KiB, possibly from an untrusted peer.

    Raises:
        ConfigurationError: too large, neither TOML nor JSON, an unknown or repeated field, a value out of
            bounds, an empty list, or a contradiction.
    """
    if len(data) > POLICY_LIMIT_BYTES:
        raise ConfigurationError(f"policy: expected at most {POLICY_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        text = data.decode()
        if text.lstrip().startswith("{"):
            table = json.loads(text, object_pairs_hook=_without_repeats)
        else:
            table = _parse_toml(text)
    except (ValueError, RecursionError) as error:  # UnicodeDecodeError, JSONDecodeError, TOMLDecodeError
        raise ConfigurationError(f"policy: expected TOML or JSON in UTF-8: {error}") from error
    return policy_from_table(table)


def _parse_toml(text: str) -> dict[str, Any]:
    if _DEEP_KEY.search(text):
        raise ValueError(f"a key has more than {KEY_PARTS_LIMIT} parts")
    return tomllib.loads(text)


def policy_from_table(table: Mapping[str, Any]) -> AppraisalPolicy:
    """Read a policy that is part of another TOML or JSON document.

    Raises:
        ConfigurationError: an unknown field, a value out of bounds, an empty list, or a contradiction.
    """
    try:
        return msgspec.convert(table, AppraisalPolicy)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"policy: {error}") from error


def policy_to_table(policy: AppraisalPolicy) -> dict[str, Any]:
    """Return `policy` as tables, lists, text and numbers, for another TOML or JSON document."""
    table: dict[str, Any] = msgspec.to_builtins(policy)
    return table


def encode_policy(policy: AppraisalPolicy) -> bytes:
    """Return `policy` as TOML that people can read, edit and sign."""
    lines = [f"version = {policy.version}"]
    for alternative in policy.accept:
        lines += ["", "[[accept]]"]
        if alternative.is_simulated:
            lines.append("# SIMULATED: this platform protects nothing.")
        lines += [f"{name} = {_toml(value)}" for name, value in _fields(alternative)]
    return ("\n".join(lines) + "\n").encode()


def _fields(alternative: Alternative) -> list[tuple[str, object]]:
    """Every field that the TEE knows and that holds something, so that a person sees all that holds."""
    values = msgspec.structs.asdict(alternative)
    return [
        (name, value)
        for name, value in values.items()
        if value is not None and (name not in FIELDS or alternative.technology in FIELDS[name].technologies)
    ]


def _toml(value: object) -> str:
    """Render what a policy holds: numbers, plain text, bytes, and lists and tables of those."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, bytes):
        return f'"{base64.b64encode(value).decode("ascii")}"'
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, msgspec.Struct):
        pairs = msgspec.structs.asdict(value).items()
        return f"{{ {', '.join(f'{name} = {_toml(item)}' for name, item in pairs)} }}"
    return f'"{value}"'


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        raise ValueError("a field is repeated")
    return table

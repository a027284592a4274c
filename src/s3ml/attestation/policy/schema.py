"""The JSON Schema of policies, made from the types and from the table of fields.

It says what `parse_policy` does, but for what no schema can say: that a root is a certificate of the right
kind of key, and that a JSON number has no fraction (``1.0`` is an integer to a schema).

Source: JSON Schema, draft 2020-12; docs/spec/policy.md.
"""

import inspect
import json
import re
from typing import Any

import msgspec

from s3ml.attestation.evidence import Technology, Tee
from s3ml.attestation.policy.alternative import (
    DEFAULT_MAX_COLLATERAL_AGE_S,
    DEFAULT_MAX_CRL_AGE_S,
    MEASUREMENT_DIGITS,
    SGX_MAX_SVN,
    SIGNED_IDENTITY,
    Alternative,
    AppraisalPolicy,
    RuntimeEvent,
    SnpTcb,
)
from s3ml.attestation.policy.fields import FIELDS

DIALECT = "https://json-schema.org/draft/2020-12/schema"
Schema = dict[str, Any]

_ARGUMENT = re.compile(r"^ {4}(\w+): (.*?)(?=^ {4}\w+: |\Z)", re.MULTILINE | re.DOTALL)


def policy_schema() -> Schema:
    """Return the JSON Schema of a policy, as JSON values."""
    schema: Schema = msgspec.json.schema(AppraisalPolicy)
    definitions = schema.pop("$defs")
    for name, struct in _STRUCTS.items():
        _describe(definitions[name], struct)
    alternative = definitions["Alternative"]
    _forbid_repeats(alternative["properties"])
    # What is left out becomes the vendor's default, so no number stands for it.
    del alternative["properties"]["max_collateral_age_s"]["default"]
    alternative["allOf"] = [*_tee_rules(), *(_technology_rules(technology) for technology in Technology)]
    top = definitions.pop("AppraisalPolicy")
    whole = {"$schema": DIALECT, **top, "title": "S3ML appraisal policy", "$defs": definitions}
    portable: Schema = _portable(whole)
    return portable


def encode_policy_schema() -> bytes:
    """Return `policy_schema` as indented JSON, as it is published."""
    return (json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n").encode()


_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "AppraisalPolicy": AppraisalPolicy,
    "Alternative": Alternative,
    "RuntimeEvent": RuntimeEvent,
    "SnpTcb": SnpTcb,
}


def _describe(definition: Schema, struct: type[msgspec.Struct]) -> None:
    """Give a definition the first line of its class, and each property the words under Args."""
    lines = inspect.cleandoc(struct.__doc__ or "")
    definition["description"] = lines.partition("\n")[0]
    arguments = lines.partition("Args:\n")[2].partition("\n\n")[0]
    for name, words in _ARGUMENT.findall(arguments):
        definition["properties"][name]["description"] = " ".join(words.split()).replace("``", "`")


def _tee_rules() -> list[Schema]:
    """A simulated TEE names its root and may say what it simulates; no other does."""
    simulated = {"properties": {"tee": {"const": Tee.SIMULATED.value}}, "required": ["tee"]}
    return [
        {
            "if": simulated,
            "then": {"properties": {"root": {"type": "string"}}, "required": ["root"]},
            "else": {"properties": {"root": {"const": None}, "simulates": {"const": None}}},
        }
    ]


def _technology_rules(technology: Technology) -> Schema:
    """Return what holds for one technology: the fields that it knows, the length of digests, the identity."""
    rules: Schema = {
        one.name: _default_alone(one.default)
        for one in msgspec.structs.fields(Alternative)
        if one.name in FIELDS and technology not in FIELDS[one.name].technologies
    }
    age_s = DEFAULT_MAX_CRL_AGE_S if technology is Technology.SEV_SNP else DEFAULT_MAX_COLLATERAL_AGE_S
    rules["max_collateral_age_s"] = {"default": age_s}
    digest = {"pattern": f"^[0-9a-f]{{{MEASUREMENT_DIGITS[technology]}}}$"}
    rules["measurements"] = {"items": digest}
    signed = SIGNED_IDENTITY[technology]
    if signed:
        rules["signer"] = digest
    if technology is Technology.SGX:
        rules["min_svn"] = {"maximum": SGX_MAX_SVN}
    return {"if": _is(technology), "then": {"properties": rules, **_identity(signed)}}


def _default_alone(value: object) -> Schema:
    """Return what only the default of a field satisfies, with which it asks nothing."""
    if isinstance(value, msgspec.Struct):
        return {"properties": {name: {"const": item} for name, item in msgspec.structs.asdict(value).items()}}
    return {"const": msgspec.to_builtins(value)}


def _is(technology: Technology) -> Schema:
    """Return the condition that an alternative is for `technology`, real or simulated."""
    real = {"properties": {"tee": {"const": technology.value}}}
    simulated: Schema = {"tee": {"const": Tee.SIMULATED.value}, "simulates": {"const": technology.value}}
    if technology is Technology.SGX:  # what is simulated where nothing else is said
        simulated["simulates"] = {"enum": [technology.value, None]}
        return {"required": ["tee"], "anyOf": [real, {"properties": simulated}]}
    return {"required": ["tee"], "anyOf": [real, {"properties": simulated, "required": ["simulates"]}]}


def _identity(signed: tuple[str, ...]) -> Schema:
    """Either measurements, or all of `signed`; never a part of both."""
    given: Schema = {"not": {"const": None}}
    measured = {
        "properties": {"measurements": given, **{name: {"const": None} for name in signed}},
        "required": ["measurements"],
    }
    if not signed:
        return {"allOf": [measured]}
    named = {
        "properties": {"measurements": {"const": None}, **dict.fromkeys(signed, given)},
        "required": list(signed),
    }
    return {"oneOf": [measured, named]}


def _forbid_repeats(properties: Schema) -> None:
    """Say of every list among `properties` that it names each value once."""
    for schema in properties.values():
        for case in (schema, *schema.get("anyOf", ())):
            if case.get("type") == "array":
                case["uniqueItems"] = True


def _portable(value: Any) -> Any:
    """Return a schema of plain JSON values, with its patterns as ECMA 262 has them."""
    if isinstance(value, list | tuple):
        return [_portable(item) for item in value]
    if not isinstance(value, dict):
        return value
    found = {name: _portable(item) for name, item in value.items()}
    if isinstance(found.get("pattern"), str):
        found["pattern"] = found["pattern"].replace(r"\A", "^").replace(r"\Z", "$")
    return found

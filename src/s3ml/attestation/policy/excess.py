"""What one alternative accepts and another does not, in plain words: "accepts …", "tolerates …"."""

import hashlib
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from s3ml.attestation.evidence import Technology, Tee
from s3ml.attestation.policy.alternative import Alternative, RuntimeEvent, SnpTcb
from s3ml.attestation.policy.fields import FIELDS, Direction, Field
from s3ml.attestation.policy.parts import ANYTHING, IDENTITY, REVOCATION_LIST, WITHOUT, Value, signed_identity

_UNITS: Mapping[str, str] = MappingProxyType({"max_collateral_age_s": " s old"})

# With SEV-SNP the age belongs to the choice whether there is a revocation list.
_EDGES: Mapping[Technology, tuple[tuple[str, Field], ...]] = MappingProxyType(
    {
        technology: tuple(
            (name, field)
            for name, field in FIELDS.items()
            if technology in field.technologies
            and field.direction
            not in (Direction.ANY_OF, Direction.IDENTITY, Direction.DEMAND, Direction.NOTE)
            and not (name == "max_collateral_age_s" and technology is Technology.SEV_SNP)
        )
        for technology in Technology
    }
)


def kind_of(alternative: Alternative) -> str:
    """Return the kind of TEE, and whose formats a simulated one has, but for SGX's."""
    is_plain = alternative.tee is not Tee.SIMULATED or alternative.technology is Technology.SGX
    return str(alternative.tee) if is_plain else f"{alternative.tee} {alternative.technology}"


def kind_excess(part: Alternative, bounds: Sequence[Alternative]) -> str:
    """Say that `part` accepts a kind of TEE that none of `bounds` does."""
    asked = " or ".join(sorted({kind_of(bound) for bound in bounds}))
    return f"accepts tee {kind_of(part)}" + (f", where {asked} is asked" if asked else "")


def value_excess(name: str, value: Value, part: Alternative, bound: Alternative) -> list[str]:
    """Say that `part` accepts a value of a choice that `bound` does not.

    Args:
        name: Of the choice.
        value: Of the choice.
        part: Which accepts it.
        bound: Of the same technology.
    """
    if name == IDENTITY:
        return [_identity_excess(value, part, bound)]
    if name == REVOCATION_LIST:
        if value == WITHOUT:
            return [FIELDS["require_crl"].accepts]
        return _limit_excess("max_collateral_age_s", FIELDS["max_collateral_age_s"], part, bound)
    field = FIELDS[name]
    if value is ANYTHING:
        return [field.accepts.replace(" ", " any ", 1)]
    return [f"{field.accepts} {value}"]


def edge_excess(part: Alternative, bound: Alternative) -> list[str]:
    """Say in what `part` goes beyond `bound` (of the same technology), whatever its choices are."""
    reasons = [] if part.root == bound.root else [f"trusts simulation root {name_root(part.root)}"]
    if bound.min_svn and signed_identity(part) == signed_identity(bound):
        reasons += _floor("SVN", part.min_svn or 0, bound.min_svn, of=" of the signer's product")
    for name, field in _EDGES[part.technology]:
        if getattr(part, name) != getattr(bound, name):
            reasons += _limit_excess(name, field, part, bound)
    return reasons


def _identity_excess(value: Value, part: Alternative, bound: Alternative) -> str:
    """Say why the code is not the code that `bound` names.

    A measurement fixes no signer, because anybody may sign any code, and a signer fixes no measurement: one
    form never lies within the other.
    """
    if part.measurements is not None:
        instead = f", where signer {bound.signer} is asked" if bound.measurements is None else ""
        return f"accepts measurement {value}{instead}"
    if part.technology is Technology.SEV_SNP:
        return f"accepts image {part.image_id} of family {part.family_id} of signer {part.signer}"
    return f"accepts product {part.product_id} of signer {part.signer}"


def _limit_excess(name: str, field: Field, part: Alternative, bound: Alternative) -> list[str]:
    got, limit = getattr(part, name), getattr(bound, name)
    match field.direction:
        case Direction.UP_TO:
            return [f"{field.accepts} {value}" for value in got if value not in limit]
        case Direction.ALL_OF:
            return [f"{field.accepts} {name_event(value)}" for value in limit if value not in got]
        case Direction.PERMISSION:
            return [field.accepts] if got and not limit else []
        case Direction.CEILING:
            unit = _UNITS.get(name, "")
            allowed = f"where at most {limit}{unit.removesuffix(' old')} is allowed"
            return [f"{field.accepts} {got}{unit}, {allowed}"] if got > limit else []
        case _ if isinstance(got, SnpTcb):
            return [
                reason
                for component, least in msgspec.structs.asdict(got).items()
                for reason in _floor(f"{field.meaning} {component}", least, getattr(limit, component))
            ]
        case _:
            return _floor(field.meaning, got, limit)


def name_event(event: RuntimeEvent) -> str:
    """Return an event as people read it."""
    return f"{event.digest} in RTMR{event.register}"


def name_root(root: bytes | None) -> str:
    """Return what tells one simulation root from another: the SHA-256 of its certificate."""
    return hashlib.sha256(root or b"").hexdigest()


def _floor(what: str, least: int, asked: int, *, of: str = "") -> list[str]:
    return [f"accepts {what} {least}{of}, where at least {asked} is asked"] if least < asked else []

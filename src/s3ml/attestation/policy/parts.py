"""The parts that an alternative falls into, and which of several other alternatives contain each.

A field of which evidence shows one value (a measurement, a TCB status, a register's value) is a *choice*:
each value that is accepted is a case of its own. All other fields are *edges*: what lies at the very edge
(the least version, the greatest age, all advisories at once) stands for everything better. A part is one
value for each choice.

Which of the peers accept a value is a set, kept as the bits of a number; values with the same set are one
class. A part lies within the peers that are in the sets of all its values.

Source: docs/spec/policy.md, section "Order".
"""

from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from s3ml.attestation.evidence import Technology
from s3ml.attestation.policy.alternative import Alternative
from s3ml.attestation.policy.fields import FIELDS, Direction

Value = Hashable
ANYTHING: Value = None
IDENTITY, REVOCATION_LIST = "identity", "revocation_list"
WITHOUT, WITH = "without", "with"
SETS_LIMIT = 256  # 2 ** 8: eight peers never need more
WITHOUT_FMC = frozenset({"Milan", "Genoa"})

CHOICES: Mapping[Technology, tuple[str, ...]] = MappingProxyType(
    {
        technology: tuple(
            name
            for name, field in FIELDS.items()
            if technology in field.technologies and field.direction is Direction.ANY_OF
        )
        for technology in Technology
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ValueClass:
    """Values of one choice that the same peers accept.

    Args:
        values: At least one; `ANYTHING` stands for a value that nobody names.
        peers: The numbers of those peers, as bits.
    """

    values: tuple[Value, ...]
    peers: int


def choices_of(alternative: Alternative) -> dict[str, tuple[Value, ...]]:
    """Return every choice of `alternative` with the values that it accepts; none where it accepts nothing.

    - The code: measurements; or signer, product, family and image together.
    - With SEV-SNP, whether there is a revocation list, because only one that is there has an age.
    - A processor line that has no FMC never reaches a floor for it.
    """
    choices: dict[str, tuple[Value, ...]] = {
        IDENTITY: alternative.measurements or (signed_identity(alternative),)
    }
    for name in CHOICES[alternative.technology]:
        value = getattr(alternative, name)
        choices[name] = value if isinstance(value, tuple) else (value,)
    if alternative.technology is Technology.SEV_SNP:
        choices[REVOCATION_LIST] = (WITH,) if alternative.require_crl else (WITH, WITHOUT)
        if alternative.min_tcb.fmc:
            choices["products"] = tuple(one for one in alternative.products if one not in WITHOUT_FMC)
    return choices


def signed_identity(alternative: Alternative) -> tuple[Value, ...]:
    """Return what is named of the code instead of a measurement, but for its least version."""
    return alternative.signer, alternative.product_id, alternative.family_id, alternative.image_id


def classify(alternative: Alternative, peers: Sequence[Alternative]) -> dict[str, tuple[ValueClass, ...]]:
    """Return the classes of values of each choice, by which of `peers` (same technology) accept them."""
    accepted = [choices_of(peer) for peer in peers]
    classes = {}
    for name, values in choices_of(alternative).items():
        if name == REVOCATION_LIST:
            sets = {value: _with_list(value, alternative, peers) for value in values}
        else:
            sets = _sets(values, [choices[name] for choices in accepted])
        members: dict[int, list[Value]] = {}
        for value, peers_of_value in sets.items():
            members.setdefault(peers_of_value, []).append(value)
        classes[name] = tuple(ValueClass(values=tuple(found), peers=bits) for bits, found in members.items())
    return classes


def is_covered(choices: Iterable[Collection[int]], within: int) -> bool:
    """Tell whether every part lies within a peer.

    Exact while no more than `SETS_LIMIT` different sets of peers arise, hence always with up to eight peers.
    Beyond, the answer may be False where True is right, never the other way.

    Args:
        choices: For each choice, the sets of peers of its classes; none at all where it accepts nothing.
        within: The peers that contain the alternative's edges.
    """
    families = [smallest(choice) for choice in choices]
    if not all(families):
        return True
    reached = {within}
    for family in sorted(families, key=len):
        reached = {before & peers for before in reached for peers in family}
        if 0 in reached or len(reached) > SETS_LIMIT:
            return False
    return 0 not in reached


def smallest(sets: Collection[int]) -> list[int]:
    """Return the sets that contain no other of `sets`: what all of these leave open, the others do."""
    kept: list[int] = []
    for candidate in sorted(set(sets), key=int.bit_count):
        if all(candidate & one != one for one in kept):
            kept.append(candidate)
    return kept


def _sets(values: tuple[Value, ...], accepted: Sequence[tuple[Value, ...]]) -> dict[Value, int]:
    """Return for each value the peers that accept it, of which `accepted` has the values."""
    wanted = dict.fromkeys(values, 0)
    anything = 0
    for number, peer_values in enumerate(accepted):
        if ANYTHING in peer_values:
            anything |= 1 << number
            continue
        for value in peer_values:
            if value in wanted:
                wanted[value] |= 1 << number
    return {value: peers | anything for value, peers in wanted.items()}


def _with_list(value: Value, alternative: Alternative, peers: Sequence[Alternative]) -> int:
    found = 0
    for number, peer in enumerate(peers):
        if value == WITHOUT:
            holds = not peer.require_crl
        else:
            holds = alternative.max_collateral_age_s <= peer.max_collateral_age_s
        found |= holds << number
    return found

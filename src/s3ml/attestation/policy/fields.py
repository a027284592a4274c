"""What each field of an alternative is for, and in which direction it narrows: the one table.

Which TEE knows a field, the order of policies, and what is said of a policy to people all follow from it.
`tee`, `simulates`, `root` and the fields of `IDENTITY` have rules of their own.

Source: docs/spec/policy.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from s3ml.attestation.evidence import Technology

SGX, TDX, SEV_SNP = Technology.SGX, Technology.TDX, Technology.SEV_SNP
IDENTITY = ("measurements", "signer", "product_id", "family_id", "image_id", "min_svn")


class Direction(Enum):
    """How a field's values compare: which of two is the narrower one."""

    FLOOR = "a higher number is narrower"
    CEILING = "a lower number is narrower"
    ANY_OF = "fewer values are narrower; none given means anything"
    UP_TO = "fewer values are narrower; none given means none, and all of them may come at once"
    ALL_OF = "more values are narrower"
    PERMISSION = "false is narrower"
    DEMAND = "true is narrower"
    IDENTITY = "compared with the whole identity"
    NOTE = "changes nothing that is accepted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of an alternative.

    Args:
        technologies: Which formats know it.
        direction: How two of its values compare.
        meaning: What it is about, in a few words that follow "accepts" or "tolerates".
        is_tolerated: Whether "tolerates" is the word.
    """

    technologies: tuple[Technology, ...]
    direction: Direction
    meaning: str
    is_tolerated: bool = False

    @property
    def accepts(self) -> str:
        """What the field does, in words that a value or a limit follows."""
        return f"{'tolerates' if self.is_tolerated else 'accepts'} {self.meaning}"


def _field(
    direction: Direction, meaning: str, *technologies: Technology, is_tolerated: bool = False
) -> Field:
    return Field(
        technologies=technologies or tuple(Technology),
        direction=direction,
        meaning=meaning,
        is_tolerated=is_tolerated,
    )


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        "measurements": _field(Direction.IDENTITY, "measurement"),
        "signer": _field(Direction.IDENTITY, "signer", SGX, SEV_SNP),
        "product_id": _field(Direction.IDENTITY, "product", SGX),
        "family_id": _field(Direction.IDENTITY, "family", SEV_SNP),
        "image_id": _field(Direction.IDENTITY, "image", SEV_SNP),
        "min_svn": _field(Direction.IDENTITY, "SVN", SGX, SEV_SNP),
        "author": _field(Direction.ANY_OF, "author", SEV_SNP),
        "rtmr0": _field(Direction.ANY_OF, "RTMR0", TDX),
        "rtmr1": _field(Direction.ANY_OF, "RTMR1", TDX),
        "rtmr2": _field(Direction.ANY_OF, "RTMR2", TDX),
        "rtmr3": _field(Direction.ANY_OF, "RTMR3", TDX),
        "events": _field(Direction.ALL_OF, "a log without event", TDX),
        "config_ids": _field(Direction.ANY_OF, "MRCONFIGID", TDX),
        "host_data": _field(Direction.ANY_OF, "host data", SEV_SNP),
        "tcb_statuses": _field(Direction.ANY_OF, "TCB status", SGX, TDX, is_tolerated=True),
        "advisories": _field(Direction.UP_TO, "advisory", SGX, TDX, is_tolerated=True),
        "min_tcb_evaluation_data_number": _field(Direction.FLOOR, "tcbEvaluationDataNumber", SGX, TDX),
        "max_collateral_age_s": _field(Direction.CEILING, "collateral"),
        "warn_collateral_age_s": _field(Direction.NOTE, "collateral"),
        "min_qe_svn": _field(Direction.FLOOR, "a quoting enclave of SVN", SGX, TDX),
        "min_pce_svn": _field(Direction.FLOOR, "a certification enclave of SVN", SGX, TDX),
        "products": _field(Direction.ANY_OF, "processor line", SEV_SNP),
        "endorsement_keys": _field(Direction.ANY_OF, "endorsement key", SEV_SNP),
        "chip_ids": _field(Direction.ANY_OF, "chip", SEV_SNP),
        "min_tcb": _field(Direction.FLOOR, "a platform with", SEV_SNP),
        "max_vmpl": _field(Direction.CEILING, "VMPL", SEV_SNP),
        "allow_smt": _field(Direction.PERMISSION, "simultaneous multithreading", SEV_SNP),
        "allow_migration_agent": _field(Direction.PERMISSION, "a migration agent", SEV_SNP),
        "require_crl": _field(Direction.DEMAND, "a missing revocation list", SEV_SNP),
    }
)

"""An item of collateral: one document of a vendor's, as it is fetched, proved, cached and kept in files.

What was proved is told apart from what was not by its type: `Proven` is made by `prove` alone, from an
`Item` that a vendor signed, whoever delivered it.

Source: docs/spec/collateral.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

import msgspec

from s3ml.attestation.errors import Mismatch
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.primitives.units import KIB

CHAIN_LIMIT_CHARACTERS = 8 * KIB
TEXT_LIMIT_CHARACTERS = 24 * KIB
DER_LIMIT_BYTES = 16 * KIB
ITEM_LIMIT_BYTES = 64 * KIB
VALIDATOR_LIMIT_CHARACTERS = 512
NAME_PATTERN = r"\A[a-z0-9]+(?:-[a-z0-9]+){0,15}\Z"
NAME_LIMIT_CHARACTERS = 200

_NAME = re.compile(NAME_PATTERN, re.ASCII)

Name = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN, max_length=NAME_LIMIT_CHARACTERS)]
Address = Annotated[str, msgspec.Meta(pattern=r"\A[ -~]*\Z", max_length=2 * KIB)]  # people read it
FieldValue = Annotated[str, msgspec.Meta(max_length=VALIDATOR_LIMIT_CHARACTERS)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]


class CollateralRejectedError(UntrustedPeerError):
    """What a provisioning service, a cache or a file delivered is not what the vendor signed."""


class CollateralUnavailableError(UnavailableError):
    """No endpoint delivers an item that serves now; the message says which failed, and why."""


class Item(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One document of a vendor's, and where it came from; trusted in nothing.

    Args:
        version: Of this form.
        name: What it is, such as ``sgx-tcb-info-00906ea10000-standard``; no path follows from it.
        chain: PEM, leaf first: who signed it. For AMD's authorities: the document itself.
        text: The exact JSON text that was signed.
        signature: Over `text`, r || s.
        der: A revocation list or certificate.
        confirmed_at: When its source last said that it is the current one, aware UTC.
        source: The address that it came from, without a query.
        etag: The validator that came with it.
        last_modified: Likewise.
    """

    version: Literal[1] = 1
    name: Name
    chain: Annotated[str, msgspec.Meta(max_length=CHAIN_LIMIT_CHARACTERS)] = ""
    text: Annotated[str, msgspec.Meta(max_length=TEXT_LIMIT_CHARACTERS)] = ""
    signature: Annotated[bytes, msgspec.Meta(max_length=64)] = b""
    der: Annotated[bytes, msgspec.Meta(max_length=DER_LIMIT_BYTES)] = b""
    confirmed_at: Instant
    source: Address
    etag: FieldValue | None = None
    last_modified: FieldValue | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What an endpoint answered: a body within its limit, and header fields by their lower-case names."""

    url: str
    status: int
    fields: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """The parts of an item that a reply holds, taken out of it exactly and trusted in nothing."""

    chain: str = ""
    text: str = ""
    signature: bytes = b""
    der: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What the vendor's signature says of an item.

    Args:
        issued_at: When it was issued, aware UTC.
        valid_until: Its next update, or the first end of a certificate under it.
        evaluation_data_number: Of TCB info and QE identity; 0 for the rest.
        is_ordered: Whether an older one may never replace a newer one.
        revoked: The serial numbers that a revocation list holds.
    """

    issued_at: datetime
    valid_until: datetime
    evaluation_data_number: int = 0
    is_ordered: bool = True
    revoked: frozenset[int] = frozenset()

    @property
    def rank(self) -> tuple[int, datetime]:
        """What says which of two is the newer one."""
        return self.evaluation_data_number, self.issued_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Proven:
    """An item whose signatures hold under the pinned root, and what they say of it."""

    item: Item
    proof: Proof


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where an item can be had.

    Args:
        url: With its query.
        fields: Header fields of the request; they may hold a subscription key and are never logged.
    """

    url: str
    fields: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Target({source_of(self.url)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inquiry:
    """Everything about getting one item.

    Args:
        name: The item's.
        what: The same in words, for messages.
        targets: Where to ask, in this order.
        read: Takes a reply apart; raises `CollateralRejectedError`.
        prove: Checks every signature of an item and says when it holds; raises `CollateralRejectedError`.
        refresh_after_s: After how many seconds to ask for a newer one; None where there never is one.
        max_age_s: The greatest age since it was issued, in seconds; None where only its own end counts.
    """

    name: str
    what: str
    targets: tuple[Target, ...]
    read: Callable[[Reply], Content]
    prove: Callable[[Item, datetime], Proof]
    refresh_after_s: float | None
    max_age_s: float | None


_DECODER = msgspec.json.Decoder(Item)


def check_item_name(name: str) -> str:
    """Return `name` when it is one: lower-case words of letters and digits between hyphens.

    Raises:
        ConfigurationError: it is not.
    """
    if len(name) > NAME_LIMIT_CHARACTERS or not _NAME.match(name):
        raise ConfigurationError(
            f"collateral: expected a name of a-z, 0-9 and inner hyphens, got {name[:80]!r}"
        )
    return name


def encode_item(item: Item) -> bytes:
    """Return `item` as JSON, for a cache or a file."""
    return msgspec.json.encode(item)


def parse_item(data: bytes, *, name: str) -> Item:
    """Read an item back; its signatures are not checked.

    Args:
        data: From a cache or a file, at most 64 KiB.
        name: The name that it must have.

    Raises:
        CollateralRejectedError: too large, no JSON, another version, an unknown field, or another name.
    """
    if len(data) > ITEM_LIMIT_BYTES:
        raise CollateralRejectedError(f"expected at most {ITEM_LIMIT_BYTES} bytes, got {len(data)}")
    try:
        item = _DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CollateralRejectedError(f"expected an item of version 1: {error}") from error
    if item.name != name:
        raise CollateralRejectedError(f"expected the item {name}, got {item.name}")
    return item


def prove(inquiry: Inquiry, item: Item, now: datetime) -> Proven:
    """Check every signature of `item` and return what it proves; its age is not judged here.

    Raises:
        CollateralRejectedError: it is not what the vendor signed.
    """
    return Proven(item=item, proof=inquiry.prove(item, now))


def reject_mismatches(mismatches: list[Mismatch]) -> None:
    """Raise where a rule is broken.

    Raises:
        CollateralRejectedError: there is a mismatch.
    """
    if mismatches:
        raise CollateralRejectedError("; ".join(str(mismatch) for mismatch in mismatches))


def source_of(url: str) -> str:
    """Return an address without its query and fragment, as messages and files show it."""
    return url.partition("#")[0].partition("?")[0]


def as_utc(instant: datetime) -> datetime:
    """Return an aware instant in UTC."""
    return instant.astimezone(UTC)

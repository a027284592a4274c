"""What owners and holders of recovery keys do: keys, terms, contributions and rehearsals."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import msgspec
import pyrage

from s3ml.client.trust import Trust
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import (
    ContributionRequest,
    Outcome,
    RecoveryAsk,
    RecoveryDocument,
    RecoveryKey,
    RecoveryRequestReply,
    RecoverySharesReply,
    RequestStatus,
)
from s3ml.keyservice.documents.recovery import Purpose
from s3ml.keyservice.escrow import judge_recovery, read_shares, warn_about_terms
from s3ml.keyservice.escrow.holder import (
    REQUEST_FILE_LIMIT_BYTES,
    VerifiedRequest,
    contribute,
    follow_owners,
    read_request,
    verify_outcome,
    verify_request,
)
from s3ml.keyservice.escrow.shares import open_shares
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.primitives.errors import ConfigurationError, UntrustedPeerError
from s3ml.primitives.files import read_limited, write_atomically
from s3ml.primitives.names import check_name
from s3ml.primitives.units import KIB

RESOURCE = "deployment/recovery"
IDENTITY_ENDING = ".agekey"
RECIPIENT_ENDING = ".agepub"
_NONCE_BYTES = 32
_IDENTITY_PREFIX = "AGE-SECRET-KEY-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsal:
    """A rehearsal that was held.

    Args:
        request: What was asked, verified.
        outcome: What the TEE says the shares open, verified.
    """

    request: VerifiedRequest
    outcome: Outcome

    @property
    def is_recoverable(self) -> bool:
        """Whether everything opened."""
        return self.outcome.opened > 0 and self.outcome.failures == 0


def generate_recovery_key(path: Path, *, now: datetime, replace: bool = False) -> str:
    """Make an age identity, write it and its recipient beside it, and return the recipient.

    Args:
        path: Where, without the endings ``.agekey`` (mode 0600) and ``.agepub``.
        now: For the comment that age's own tool writes too.
        replace: Whether to replace files that are there.

    Raises:
        ConfigurationError: a file is there already, or cannot be written.
    """
    check_name(path.name, what="name")
    identity_path, recipient_path = (
        path.with_name(path.name + ending) for ending in (IDENTITY_ENDING, RECIPIENT_ENDING)
    )
    for existing in (identity_path, recipient_path):
        if existing.exists() and not replace:
            raise ConfigurationError(f"{existing}: exists already; choose another name, or use --force")
    identity = pyrage.x25519.Identity.generate()
    recipient = str(identity.to_public())
    text = f"# created: {now.isoformat()}\n# public key: {recipient}\n{identity}\n"
    write_atomically(identity_path, text.encode(), mode=0o600)
    write_atomically(recipient_path, f"{recipient}\n".encode())
    return recipient


def read_identity(path: Path) -> pyrage.x25519.Identity:
    """Read an age identity file that holds one X25519 identity.

    Raises:
        ConfigurationError: it is missing, or holds none or several.
    """
    text = read_limited(path, limit_bytes=16 * KIB, what="age identity").decode("ascii", errors="replace")
    found = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if len(found) != 1 or not found[0].startswith(_IDENTITY_PREFIX):
        raise ConfigurationError(f"{path}: expected one age identity ({_IDENTITY_PREFIX}…)")
    try:
        return pyrage.x25519.Identity.from_str(found[0])
    except pyrage.IdentityError:
        raise ConfigurationError(f"{path}: expected an age identity of X25519, got a damaged one") from None


def read_recovery_key(text: str) -> RecoveryKey:
    """Read ``NAME=age1…`` or ``NAME=FILE``, where the file holds a recipient.

    Raises:
        ConfigurationError: another form, or the file is missing.
    """
    name, separator, value = text.partition("=")
    if not separator or not value:
        raise ConfigurationError(f"recovery key: expected NAME=age1… or NAME=FILE, got {text[:80]!r}")
    check_name(name, what="recovery key")
    if not value.startswith("age1"):
        data = read_limited(Path(value), limit_bytes=16 * KIB, what="recovery key")
        value = data.decode("ascii", errors="replace").strip()
    try:
        return msgspec.convert({"name": name, "recipient": value}, RecoveryKey)
    except msgspec.ValidationError:
        raise ConfigurationError(
            f"recovery key of {name}: expected an age recipient of X25519 (age1…), got {value[:20]!r}"
        ) from None


def recovery_document(keys: Sequence[RecoveryKey], *, threshold: int) -> bytes:
    """Write the body of ``PUT deployment/recovery``.

    Raises:
        ConfigurationError: a number is out of range.
        RefusedError: the terms break a rule; all mismatches are listed.
    """
    body = encode_document(RecoveryDocument(threshold=threshold, recipients=tuple(keys)))
    judge_recovery(body)
    return body


def describe_terms(body: bytes) -> list[str]:
    """Say in plain words what the owners sign, a line each.

    Raises:
        ConfigurationError: it is no such document.
        RefusedError: the terms break a rule.
    """
    terms = judge_recovery(body)
    return [
        f"Any {terms.threshold} of these {len(terms.holders)} recover the deployment's keys together:",
        *(f"{holder.name}: {holder.recipient}" for holder in terms.holders),
        "Whoever holds shares of earlier terms keeps them, until the deployment has new keys.",
        *warn_about_terms(terms),
    ]


def read_request_file(path: Path) -> RecoveryRequestReply:
    """Read a request with its shares.

    Raises:
        ConfigurationError: it is missing, or is no request.
    """
    data = read_limited(path, limit_bytes=REQUEST_FILE_LIMIT_BYTES, what="recovery request")
    try:
        return read_request(data)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def read_contribution(path: Path) -> ContributionRequest:
    """Read a sealed contribution.

    Raises:
        ConfigurationError: it is missing, or is none.
    """
    data = read_limited(path, limit_bytes=REQUEST_LIMIT_BYTES, what="contribution")
    return parse_document(
        data, ContributionRequest, what=f"contribution {path}", limit_bytes=REQUEST_LIMIT_BYTES
    )


def read_share_copies(paths: Sequence[Path], reply: RecoveryRequestReply) -> RecoverySharesReply:
    """Return the encrypted shares of files that holders kept, or those of the request where none are given.

    Raises:
        ConfigurationError: a file is missing, or holds no shares.
    """
    if not paths:
        return reply.shares
    copies = [
        read_shares(read_limited(path, limit_bytes=REQUEST_LIMIT_BYTES, what="recovery shares"))
        for path in paths
    ]
    shares = {share.ciphertext: share for copy in copies for share in copy.shares}
    return msgspec.structs.replace(reply.shares, shares=tuple(shares.values()))


def verify_request_file(
    reply: RecoveryRequestReply, trust: Trust, *, is_following: bool, now: datetime
) -> VerifiedRequest:
    """Verify a request against a trust file, and against the owners' chain where one came with it.

    Args:
        reply: From an untrusted peer.
        trust: What is pinned.
        is_following: Whether to accept the key service that the owners' chain leads to, instead of the trust
            file's.
        now: Aware UTC.

    Raises:
        ConfigurationError: the chain is to be followed, and none came with the request.
        UntrustedPeerError: a check failed; see `verify_request` and `follow_owners`.
    """
    authority = follow_owners(reply, deployment=trust.deployment)
    policy = trust.key_service_policy
    if is_following:
        if authority is None:
            raise ConfigurationError("recovery request: expected the owners' chain in it, got none")
        policy = authority.policy
    return verify_request(reply, deployment=trust.deployment, policy=policy, now=now)


def ask_replica(client: KeyServiceClient, purpose: Purpose) -> RecoveryRequestReply:
    """Ask a replica to ask for shares, with a fresh nonce, and fetch the owners' chain with it.

    Raises:
        UntrustedPeerError: it refuses, or answers with another purpose or a rehearsal of another asker.
        UnavailableError: it does not answer.
    """
    ask = RecoveryAsk(purpose=purpose, nonce=secrets.token_bytes(_NONCE_BYTES))
    reply = client.recovery_request(ask)
    request = reply.request
    if request.purpose != purpose:
        raise UntrustedPeerError(f"recovery request: purpose: expected {purpose}, got {request.purpose}")
    if purpose == "rehearsal" and request.asker_nonce != ask.nonce:
        raise UntrustedPeerError("recovery request: expected one over the nonce that was sent, got another")
    return msgspec.structs.replace(reply, authority=client.authority())


def rehearse(
    client: KeyServiceClient,
    reply: RecoveryRequestReply,
    *,
    identities: Sequence[pyrage.x25519.Identity],
    contributions: Sequence[ContributionRequest],
    trust: Trust,
    is_following: bool,
    now: datetime,
) -> Rehearsal:
    """Hold a rehearsal: contribute to a request for one, and verify what the TEE says that it showed.

    Args:
        client: Leads to the replica that made the request.
        reply: The request; verified here.
        identities: Of holders who are present.
        contributions: Of holders who are not, to this very request.
        trust: What is pinned.
        is_following: Whether to accept the key service that the owners' chain leads to.
        now: Aware UTC.

    Raises:
        ConfigurationError: the request is no rehearsal, or shares are missing.
        UntrustedPeerError: request, shares or outcome do not hold, or the replica refuses.
        UnavailableError: the replica does not answer.
    """
    verified = verify_request_file(reply, trust, is_following=is_following, now=now)
    if verified.request.purpose != "rehearsal":
        raise ConfigurationError("recovery request: expected a rehearsal, got a recovery")
    given = list(contributions)
    if identities:
        given.append(contribute(verified, open_shares(reply.shares, identities)))
    status = send(client, given)
    if status.outcome is None:
        raise ConfigurationError(
            f"rehearsal: expected shares of {status.threshold} holders, got those of "
            f"{', '.join(status.contributed) or 'nobody'}"
        )
    outcome = verify_outcome(status.outcome, verified, now=now)
    return Rehearsal(request=verified, outcome=outcome)


def send(client: KeyServiceClient, given: Sequence[ContributionRequest]) -> RequestStatus:
    """Send contributions until they are enough, and return how far their request is.

    Raises:
        ConfigurationError: there are none, or they are for several requests.
        UntrustedPeerError: the replica refuses one.
        UnavailableError: it does not answer.
    """
    if len({contribution.request for contribution in given}) != 1:
        raise ConfigurationError("contributions: expected at least one, all for one request")
    status = client.recovery_contribution(given[0])
    for contribution in given[1:]:
        if status.missing == 0:
            break
        status = client.recovery_contribution(contribution)
    return status

"""Shares of the wrapping key: made in the TEE, each encrypted to its holder, all under one signed set.

The set's payload is hashed for its id, and commits to every share. Whoever knows the statement key of the
deployment tells a share of the set from any other, one at a time.

Source: docs/spec/recovery.md, section "Shares".
"""

import secrets
from collections.abc import Iterable
from dataclasses import dataclass

import pyrage

from s3ml.keyservice.documents import (
    SHARE_SET_TYPE,
    EncryptedShare,
    Mismatch,
    RecoverySharesReply,
    Share,
    ShareSet,
)
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.escrow.splitting import Outline, Piece, RandomBytes, is_piece_of, split
from s3ml.keyservice.escrow.terms import RecoveryTerms
from s3ml.keyservice.fields import REQUEST_LIMIT_BYTES
from s3ml.keyservice.parsing import encode_document, parse_document
from s3ml.keyservice.storage import SecretName, WrappedSecret
from s3ml.primitives.encoding import sha256, tagged
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey, VerifyKey

SHARES_NAME = SecretName(kind="recovery-shares", name="", version="1")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSet:
    """A share set with its id; made by `read_share_set` and `verify_share_set` alone.

    Args:
        document: What it says.
        sha256: Its id: the digest of its bytes, hexadecimal.
        outline: What its shares are checked against.
        context: What the splitting was for.
    """

    document: ShareSet
    sha256: str
    outline: Outline
    context: bytes

    def holder(self, index: int) -> str:
        """Return the name of the holder of share `index`, which is in range."""
        return self.document.recipients[index - 1].name


def make_shares(
    wrapping_key: SecretBytes,
    terms: RecoveryTerms,
    *,
    deployment: str,
    statement_key: SigningKey,
    random_bytes: RandomBytes = secrets.token_bytes,
) -> RecoverySharesReply:
    """Split the wrapping key under `terms`, and encrypt each share to its holder.

    Made anew whenever the terms, the wrapping key or the statement key change.

    Args:
        wrapping_key: 32 bytes.
        terms: Who holds shares.
        deployment: The deployment's id.
        statement_key: Signs the set.
        random_bytes: Returns as many random bytes as it is asked for.

    Returns:
        What is stored, served and safe to show.
    """
    context = share_context(deployment)
    outline, pieces = split(
        wrapping_key,
        threshold=terms.threshold,
        count=len(terms.holders),
        context=context,
        random_bytes=random_bytes,
    )
    payload = encode_document(
        ShareSet(
            deployment=deployment,
            threshold=outline.threshold,
            recipients=terms.holders,
            commitment=outline.commitment,
            digests=outline.digests,
        )
    )
    envelope = Envelope(payload_type=SHARE_SET_TYPE, payload=payload).with_signature(statement_key)
    shares = []
    for piece, holder in zip(pieces, terms.holders, strict=True):
        share = Share(
            deployment=deployment,
            share_set=sha256(payload).hex(),
            threshold=outline.threshold,
            index=piece.index,
            value=piece.value.reveal(),
        )
        recipient = pyrage.x25519.Recipient.from_str(holder.recipient)
        ciphertext = pyrage.encrypt(encode_document(share), [recipient])
        shares.append(EncryptedShare(index=piece.index, name=holder.name, ciphertext=ciphertext))
    return RecoverySharesReply(share_set=envelope, shares=tuple(shares))


def stored_shares(shares: RecoverySharesReply) -> WrappedSecret:
    """Return `shares` as they lie in storage: all in one place, so that old ones go as new ones come."""
    return WrappedSecret(name=SHARES_NAME, ciphertext=encode_document(shares))


def read_shares(data: bytes) -> RecoverySharesReply:
    """Read shares from storage or from a file; nothing in them is verified.

    Raises:
        DocumentMalformedError: these are none.
    """
    return parse_document(data, RecoverySharesReply, what="recovery shares", limit_bytes=REQUEST_LIMIT_BYTES)


def share_context(deployment: str) -> bytes:
    """Return what a splitting of the wrapping key is for."""
    return tagged("S3ML wrapping key shares v1", bytes.fromhex(deployment))


def read_share_set(envelope: Envelope) -> ReadSet:
    """Read a share set whose bytes somebody else vouches for; its signature is not judged.

    Raises:
        ConfigurationError: it is no share set, or contradicts itself.
    """
    if envelope.payload_type != SHARE_SET_TYPE:
        raise ConfigurationError(f"share set: expected {SHARE_SET_TYPE}, got {envelope.payload_type[:100]}")
    document = parse_document(envelope.payload, ShareSet, what="share set", limit_bytes=REQUEST_LIMIT_BYTES)
    if len(document.digests) != len(document.recipients):
        raise ConfigurationError(
            f"share set: expected a digest for each of {len(document.recipients)} holders, "
            f"got {len(document.digests)}"
        )
    outline = Outline(threshold=document.threshold, commitment=document.commitment, digests=document.digests)
    return ReadSet(
        document=document,
        sha256=sha256(envelope.payload).hex(),
        outline=outline,
        context=share_context(document.deployment),
    )


def verify_share_set(envelope: Envelope, *, deployment: str, statement_key: VerifyKey) -> ReadSet:
    """Return the share set that `deployment` signed.

    Args:
        envelope: From untrusted storage.
        deployment: The deployment's id.
        statement_key: The one that stands in the log.

    Raises:
        SignatureError: the statement key did not sign it.
        ConfigurationError: what was signed is no share set.
        RefusedError: it is of another deployment.
    """
    envelope.verify([statement_key], threshold=1, payload_type=SHARE_SET_TYPE)
    found = read_share_set(envelope)
    if found.document.deployment != deployment:
        got = found.document.deployment
        raise RefusedError("share set", [mismatch("deployment", expected=deployment, got=got)])
    return found


def open_shares(
    shares: RecoverySharesReply, identities: Iterable[pyrage.x25519.Identity]
) -> tuple[Share, ...]:
    """Decrypt those of `shares` that `identities` open, in order; nothing in them is judged yet.

    Raises:
        ConfigurationError: an identity opens none of them.
        DocumentMalformedError: what was encrypted is no share.
    """
    opened: dict[int, Share] = {}
    for number, identity in enumerate(identities, start=1):
        mine = [share for share in (_open(one, identity) for one in shares.shares) if share is not None]
        if not mine:
            names = ", ".join(share.name for share in shares.shares)
            raise ConfigurationError(
                f"age identity {number}: opens none of these shares; they are those of {names}"
            )
        opened |= {share.index: share for share in mine}
    return tuple(opened[index] for index in sorted(opened))


def _open(encrypted: EncryptedShare, identity: pyrage.x25519.Identity) -> Share | None:
    try:
        data = pyrage.decrypt(encrypted.ciphertext, [identity])
    except pyrage.DecryptError:
        return None
    what = f"share {encrypted.index} of {encrypted.name}"
    return parse_document(data, Share, what=what, limit_bytes=REQUEST_LIMIT_BYTES)


def doubt_share(share: Share, expected: ReadSet) -> list[Mismatch]:
    """Return why `share` is none of the set `expected`, which somebody vouches for; nothing where it is.

    The claims name the share by its number, and by its holder where the set has that number.
    """
    count = len(expected.document.recipients)
    named = f" of {expected.holder(share.index)}" if share.index <= count else ""
    what = f"share {share.index}{named}"
    if share.deployment != expected.document.deployment:
        claim = f"{what}: deployment"
        return [mismatch(claim, expected=expected.document.deployment, got=share.deployment)]
    if share.share_set != expected.sha256:
        return [mismatch(f"{what}: share set", expected=expected.sha256, got=share.share_set)]
    failed = []
    if share.threshold != expected.document.threshold:
        claim = f"{what}: threshold"
        failed.append(mismatch(claim, expected=expected.document.threshold, got=share.threshold))
    if share.index > count:
        failed.append(mismatch(f"{what}: number", expected=f"1 to {count}", got=share.index))
    elif not is_piece_of(expected.outline, piece_of(share), context=expected.context):
        failed.append(mismatch(f"{what}: value", expected="what the set commits to", got="another"))
    return failed


def check_shares(shares: Iterable[Share], expected: ReadSet) -> None:
    """Hold shares against the set that they should be of.

    Raises:
        RefusedError: some are not; all mismatches are listed.
    """
    if failed := [one for share in shares for one in doubt_share(share, expected)]:
        raise RefusedError("shares", failed)


def piece_of(share: Share) -> Piece:
    """Return what a share holds."""
    return Piece(index=share.index, value=SecretBytes(share.value))

"""An enclave program that keeps its data under a secret of its service, whoever owns the disk.

The key service makes the key inside its TEE and releases it to enclaves that satisfy the *secret's* policy:

    s3ml secret sign at-rest --service tumours --policy model-server --generate --key owner.key

This is a library for a program that runs in a TEE: it is measured with it, and it gets its `attester` from
`s3ml.apps.processes.attester.find_attester`, as the model server does. Data written under an older version of
the key is read with that, and written anew under the newest.
"""

import secrets
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from s3ml.keyservice.client import ReleaseSession, find_secret
from s3ml.keyservice.documents import (
    ChallengeReply,
    ChallengeRequest,
    Release,
    ReleaseReply,
    ReleaseRequest,
)

SECRET = "at-rest"  # noqa: S105 - the name of a secret, which is public
VERSION_BYTES, NONCE_BYTES = 8, 12


class KeyService(Protocol):
    """The way to the key service: `s3ml.keyservice.client.KeyServiceClient` over HTTP."""

    def challenge(self, request: ChallengeRequest) -> ChallengeReply:
        """Ask what the evidence must answer."""
        ...

    def release(self, request: ReleaseRequest) -> ReleaseReply:
        """Hand in evidence and receive what it is good for."""
        ...


def attest(session: ReleaseSession, key_service: KeyService) -> Release:
    """Prove what this program is, and receive keys and secrets for it; blocks.

    Raises:
        UntrustedPeerError: the key service refuses this code, or its answer does not verify.
        UnavailableError: it does not answer now.
    """
    challenge = key_service.challenge(session.challenge_request())
    return session.open(key_service.release(session.answer(challenge))).release


def write(release: Release, path: Path, data: bytes) -> None:
    """Keep `data` at `path` under the newest version of the key; the file says which.

    The name is authenticated: the host cannot swap two files. It can put an older content of one back.

    Raises:
        NotFoundError: the release holds no such secret.
    """
    key = find_secret(release, SECRET)
    nonce = secrets.token_bytes(NONCE_BYTES)
    sealed = AESGCM(key.value).encrypt(nonce, data, path.name.encode())
    path.write_bytes(key.secret_version.to_bytes(VERSION_BYTES, "big") + nonce + sealed)


def read(release: Release, path: Path) -> bytes:
    """Return what was kept at `path`; where it lies under an older key, write it anew.

    Raises:
        NotFoundError: it lies under a version that was destroyed, or that this enclave may not have.
        ValueError: it was changed, or moved from another name.
    """
    stored = path.read_bytes()
    version, rest = int.from_bytes(stored[:VERSION_BYTES], "big"), stored[VERSION_BYTES:]
    key = find_secret(release, SECRET, version=version)
    try:
        data = AESGCM(key.value).decrypt(rest[:NONCE_BYTES], rest[NONCE_BYTES:], path.name.encode())
    except InvalidTag:
        raise ValueError(f"{path}: was changed by somebody else") from None
    if not key.is_current:
        write(release, path, data)
    return data

"""What each exchange binds: the fields of the quote, of the HPKE ``info``, and of a client's leaf in a batch.

Source: docs/spec/report-data.md, docs/spec/encodings.md.
"""

from s3ml.attestation import Binding
from s3ml.keyservice.authority import Authority
from s3ml.keyservice.genesis import Genesis
from s3ml.primitives.encoding import sha256, tagged, tagged_sha256

KEY_SERVICE = "key-service"
MODEL_SERVER = "model-server"


def genesis_binding(genesis: Genesis, *, nonce: bytes, attester_nonce: bytes) -> Binding:
    """Return what the evidence of a genesis binds: `nonce` is the owner's."""
    return Binding(
        purpose="genesis",
        deployment=genesis.deployment_bytes,
        role=KEY_SERVICE,
        verifier_nonce=nonce,
        attester_nonce=attester_nonce,
        public_key=genesis.keys.intake,
        service="",
        policy_digest=genesis.policy_digest,
        log_head=genesis.log_root,
    )


def statement_binding(
    authority: Authority, *, batch_root: bytes, attester_nonce: bytes, log_root: bytes
) -> Binding:
    """Return what the evidence of a trust bundle binds."""
    return Binding(
        purpose="statement",
        deployment=authority.genesis.deployment_bytes,
        role=KEY_SERVICE,
        verifier_nonce=batch_root,
        attester_nonce=attester_nonce,
        public_key=authority.statement_key.raw,
        service="",
        policy_digest=authority.policy_digest,
        log_head=log_root,
    )


def release_binding(
    *,
    deployment: str,
    nonce: bytes,
    attester_nonce: bytes,
    public_key: bytes,
    service: str,
    policy_sha256: str,
    log_head: bytes,
) -> Binding:
    """Return what a model server's evidence binds: `nonce` and `log_head` are the challenge's."""
    return Binding(
        purpose="release",
        deployment=bytes.fromhex(deployment),
        role=MODEL_SERVER,
        verifier_nonce=nonce,
        attester_nonce=attester_nonce,
        public_key=public_key,
        service=service,
        policy_digest=bytes.fromhex(policy_sha256),
        log_head=log_head,
    )


def release_info(report_data: bytes) -> bytes:
    """Return the HPKE ``info`` of a release that answers the quote with `report_data`."""
    return tagged("S3ML release v1", report_data)


def identity_info(
    *, deployment: str, service: str, policy_sha256: str, model: str, model_version: str
) -> bytes:
    """Return the HPKE ``info`` under which a model's age identity is sealed to the intake key."""
    return tagged(
        "S3ML model identity v1",
        bytes.fromhex(deployment),
        service.encode("ascii"),
        bytes.fromhex(policy_sha256),
        model.encode("ascii"),
        model_version.encode("ascii"),
    )


def batch_leaf(nonce: bytes, statement: bytes) -> bytes:
    """Return a client's leaf in a batch: its nonce, and the digest of the statement's payload."""
    return tagged_sha256("S3ML trust nonce v1", nonce, sha256(statement))


def secret_info(*, deployment: str, service: str, secret: str, policy_sha256: str) -> bytes:
    """Return the HPKE ``info`` under which an opaque secret is sealed to the intake key."""
    return tagged(
        "S3ML service secret v1",
        bytes.fromhex(deployment),
        service.encode("ascii"),
        secret.encode("ascii"),
        bytes.fromhex(policy_sha256),
    )


def secret_commitment(salt: bytes, value: bytes) -> str:
    """Return the commitment to `value` that owners sign: without the salt it tells nothing."""
    return tagged_sha256("S3ML secret commitment v1", salt, value).hex()

"""What the two pieces of evidence of a join bind, and under what its secrets are sealed.

Every digest covers the one before it, so that the last covers every field of every message of one join.

Source: docs/spec/join.md, "What is bound".
"""

from s3ml.attestation import Binding
from s3ml.keyservice.documents.joining import JoinHello, JoinOffer, JoinRequest
from s3ml.primitives.encoding import sha256, tagged, tagged_sha256

SOURCE = "key-service-source"
JOINER = "key-service-joiner"


def hello_digest(hello: JoinHello) -> bytes:
    """Return the digest of a hello."""
    return tagged_sha256("S3ML join hello v1", bytes.fromhex(hello.deployment), hello.nonce, hello.public_key)


def offer_digest(hello: JoinHello, offer: JoinOffer) -> bytes:
    """Return the digest of a hello and the offer that answers it."""
    return tagged_sha256(
        "S3ML join offer v1",
        hello_digest(hello),
        bytes.fromhex(offer.deployment),
        offer.nonce,
        bytes.fromhex(offer.policy_sha256),
        offer.log_size.to_bytes(8, "big"),
        offer.log_root,
        offer.checkpoint.encode(),
    )


def request_digest(hello: JoinHello, offer: JoinOffer, request: JoinRequest) -> bytes:
    """Return the digest of everything that was said before the reply."""
    return tagged_sha256(
        "S3ML join request v1", offer_digest(hello, offer), request.nonce, sha256(request.evidence)
    )


def join_info(said: bytes) -> bytes:
    """Return the HPKE ``info`` under which the secrets are sealed; `said` is the request's digest."""
    return tagged("S3ML join v1", said)


def reply_digest(said: bytes, sealed: bytes) -> bytes:
    """Return the digest of everything that was said, and of what is sealed."""
    return tagged_sha256("S3ML join reply v1", said, sha256(sealed))


def joiner_binding(hello: JoinHello, offer: JoinOffer) -> Binding:
    """Return what the joiner's evidence binds."""
    return Binding(
        purpose="join",
        deployment=bytes.fromhex(hello.deployment),
        role=JOINER,
        verifier_nonce=offer.nonce,
        attester_nonce=hello.nonce,
        public_key=hello.public_key + offer_digest(hello, offer),
        service="",
        policy_digest=bytes.fromhex(offer.policy_sha256),
        log_head=offer.log_root,
    )


def source_binding(hello: JoinHello, offer: JoinOffer, request: JoinRequest, sealed: bytes) -> Binding:
    """Return what the source's evidence binds: it vouches for these sealed bytes in this very join."""
    return Binding(
        purpose="join",
        deployment=bytes.fromhex(hello.deployment),
        role=SOURCE,
        verifier_nonce=hello.nonce,
        attester_nonce=offer.nonce,
        public_key=hello.public_key + reply_digest(request_digest(hello, offer, request), sealed),
        service="",
        policy_digest=bytes.fromhex(offer.policy_sha256),
        log_head=offer.log_root,
    )

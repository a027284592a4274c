"""The owners' tool: is the deployment that came into being the one that was proposed, and inside a TEE?"""

from datetime import datetime

from s3ml.attestation import parse_evidence, verify_evidence
from s3ml.keyservice.bindings import genesis_binding
from s3ml.keyservice.documents import GenesisReply
from s3ml.keyservice.errors import RefusedError, mismatch
from s3ml.keyservice.genesis import Genesis, identify_genesis
from s3ml.primitives.encoding import sha256
from s3ml.primitives.envelope import Envelope


def verify_genesis_reply(reply: GenesisReply, *, proposal: Envelope, nonce: bytes, now: datetime) -> Genesis:
    """Verify that an enclave which the proposal accepts made the deployment's keys.

    1. The entry is a genesis entry whose proposal enough owners signed.
    2. It is the proposal that was sent.
    3. Evidence satisfies the proposal's key-service policy, answers `nonce`, and binds the entry and its
       intake key.

    Args:
        reply: From an untrusted peer.
        proposal: What was sent.
        nonce: The 32 fresh random bytes that were sent with it.
        now: Aware UTC.

    Raises:
        ConfigurationError: the entry is malformed.
        UntrustedPeerError: a check failed.
    """
    genesis = identify_genesis(reply.entry)  # (1)
    if genesis.envelope.payload != proposal.payload:  # (2)
        raise RefusedError(
            "genesis",
            [
                mismatch(
                    "proposal",
                    expected=sha256(proposal.payload).hex(),
                    got=sha256(genesis.envelope.payload).hex(),
                )
            ],
        )
    binding = genesis_binding(genesis, nonce=nonce, attester_nonce=reply.attester_nonce)
    verify_evidence(  # (3)
        parse_evidence(reply.evidence), genesis.policy, report_data=binding.report_data(), now=now
    )
    return genesis

"""What a request for shares binds, what a contribution to it and an outcome about it are bound to.

The purpose is in the report data and in the HPKE ``info``: what was given for a rehearsal opens no recovery.

Source: docs/spec/recovery.md, section "Request".
"""

from s3ml.attestation import Binding
from s3ml.keyservice.bindings import KEY_SERVICE
from s3ml.keyservice.documents import RecoveryRequest
from s3ml.primitives.encoding import sha256, tagged, tagged_sha256


def request_binding(request: RecoveryRequest) -> Binding:
    """Return what the evidence of `request` binds: every other field of it."""
    return Binding(
        purpose="recovery",
        deployment=bytes.fromhex(request.deployment),
        role=KEY_SERVICE,
        verifier_nonce=tagged_sha256(
            "S3ML recovery request v1",
            request.purpose.encode("ascii"),
            request.asker_nonce,
            bytes.fromhex(request.share_set),
            request.log_size.to_bytes(8, "big"),
        ),
        attester_nonce=request.nonce,
        public_key=request.public_key,
        service="",
        policy_digest=bytes.fromhex(request.policy_sha256),
        log_head=request.log_root,
    )


def request_id(report_data: bytes) -> str:
    """Return the id of the request whose evidence carries `report_data`."""
    return sha256(report_data).hex()


def contribution_info(purpose: str, report_data: bytes) -> bytes:
    """Return the HPKE ``info`` of a contribution to the request whose evidence carries `report_data`."""
    return tagged("S3ML recovery contribution v1", purpose.encode("ascii"), report_data)


def outcome_binding(request: RecoveryRequest, *, outcome: bytes, attester_nonce: bytes) -> Binding:
    """Return what the evidence of an outcome about `request` binds: the request, and the outcome's bytes."""
    asked = request_binding(request).report_data()
    return Binding(
        purpose="recovery",
        deployment=bytes.fromhex(request.deployment),
        role=KEY_SERVICE,
        verifier_nonce=tagged_sha256("S3ML rehearsal outcome v1", asked, sha256(outcome)),
        attester_nonce=attester_nonce,
        public_key=request.public_key,
        service="",
        policy_digest=bytes.fromhex(request.policy_sha256),
        log_head=request.log_root,
    )

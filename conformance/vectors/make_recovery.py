"""Make the vectors of recovery; run once from the repository's root, and again only for a new version.

``python -m conformance.vectors.make_recovery``
"""

import hashlib
import json
from pathlib import Path

from s3ml.apps.governance.share_file import encode_share, split_file
from s3ml.keyservice.documents import Outcome, RecoveryDocument, RecoveryKey, RecoveryRequest
from s3ml.keyservice.escrow import judge_recovery, make_shares
from s3ml.keyservice.escrow.binding import contribution_info, outcome_binding, request_binding, request_id
from s3ml.keyservice.escrow.shares import share_context
from s3ml.keyservice.escrow.splitting import split
from s3ml.keyservice.parsing import encode_document
from s3ml.primitives.encoding import sha256, to_base64
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey

FILE = Path(__file__).parent / "recovery.json"
DEPLOYMENT = hashlib.sha256(b"deployment").hexdigest()
RECIPIENTS = (
    "age16d2vd5rsw85s5wv94gsmpftj5tawvxugf0jfv6v38kt7mm5zecgqe745m9",
    "age1wpkw7xy2v34nlxdhfhtvp32jtltaexxn7g9t5twrm9c5xjt98gvspendtd",
    "age1y7pdnzd5hfkfnnnc20usmcn6srwy95r5tm0ahyz7swhq5yekwa8q7z03fe",
)


class Stream:
    """Bytes that look random and are the same each time: SHA-256 of a counter."""

    def __init__(self) -> None:
        self._counter = 0

    def __call__(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            found += hashlib.sha256(b"%d" % self._counter).digest()
            self._counter += 1
        return found[:size]


def splitting(threshold: int, count: int, secret: bytes) -> dict[str, object]:
    """Return one splitting with everything that it follows from."""
    context = share_context(DEPLOYMENT)
    stream = Stream()
    blinding = Stream()(32)
    outline, pieces = split(
        SecretBytes(secret), threshold=threshold, count=count, context=context, random_bytes=stream
    )
    again = Stream()
    again(32)
    return {
        "threshold": threshold,
        "count": count,
        "secret": secret.hex(),
        "context": context.hex(),
        "blinding": blinding.hex(),
        "coefficients": [again(32 + len(secret)).hex() for _ in range(threshold - 1)],
        "values": [piece.value.reveal().hex() for piece in pieces],
        "commitment": outline.commitment.hex(),
        "digests": [digest.hex() for digest in outline.digests],
    }


def request() -> RecoveryRequest:
    """Return a request without evidence."""
    return RecoveryRequest(
        deployment=DEPLOYMENT,
        purpose="recovery",
        asker_nonce=bytes(range(32)),
        nonce=bytes(range(32, 64)),
        public_key=bytes(1216),
        policy_sha256="ab" * 32,
        log_size=9,
        log_root=bytes(range(64, 96)),
        share_set="cd" * 32,
        evidence=b"",
    )


def binding(asked: RecoveryRequest) -> dict[str, object]:
    """Return what a request and an outcome about it bind."""
    data = request_binding(asked).report_data()
    outcome = encode_document(Outcome(request=request_id(data), opened=3, failures=0))
    return {
        "purpose": asked.purpose,
        "fields": {
            "deployment": asked.deployment,
            "asker_nonce": asked.asker_nonce.hex(),
            "nonce": asked.nonce.hex(),
            "public_key": asked.public_key.hex(),
            "policy_sha256": asked.policy_sha256,
            "log_size": asked.log_size,
            "log_root": asked.log_root.hex(),
            "share_set": asked.share_set,
        },
        "verifier_nonce": request_binding(asked).verifier_nonce.hex(),
        "report_data": data.hex(),
        "request_id": request_id(data),
        "contribution_info": contribution_info(asked.purpose, data).hex(),
        "outcome": outcome.decode(),
        "outcome_attester_nonce": bytes(32).hex(),
        "outcome_verifier_nonce": outcome_binding(
            asked, outcome=outcome, attester_nonce=bytes(32)
        ).verifier_nonce.hex(),
    }


def main() -> None:
    """Write the file."""
    keys = tuple(
        RecoveryKey(name=name, recipient=recipient)
        for name, recipient in zip(("ada", "bo", "cy"), RECIPIENTS, strict=True)
    )
    body = encode_document(RecoveryDocument(threshold=2, recipients=keys))
    made = make_shares(
        SecretBytes(bytes(range(32))),
        judge_recovery(body),
        deployment=DEPLOYMENT,
        statement_key=SigningKey.from_raw(bytes([7]) * 32),
        random_bytes=Stream(),
    )
    files = split_file(SecretBytes(b"secret\n"), threshold=2, count=3, random_bytes=Stream())
    asked = request()
    rehearsal = RecoveryRequest(
        **{**{name: getattr(asked, name) for name in asked.__struct_fields__}, "purpose": "rehearsal"}
    )
    vectors = {
        "source": "this project, conformance/vectors/make_recovery.py",
        "terms": body.decode(),
        "splittings": [
            splitting(1, 1, b"\x00"),
            splitting(2, 3, bytes(range(32))),
            splitting(5, 16, b"another secret"),
        ],
        "share_set": {
            "deployment": DEPLOYMENT,
            "wrapping_key": bytes(range(32)).hex(),
            "statement_key": str(SigningKey.from_raw(bytes([7]) * 32).public),
            "payload": made.share_set.payload.decode(),
            "id": sha256(made.share_set.payload).hex(),
            "signature": to_base64(made.share_set.signatures[0].sig),
        },
        "requests": [binding(asked), binding(rehearsal)],
        "share_files": {"secret": b"secret\n".hex(), "files": [encode_share(one).decode() for one in files]},
    }
    FILE.write_text(json.dumps(vectors, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

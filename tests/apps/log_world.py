"""A deployment's log, entry by entry, by the rules; and everything that a liar can do to it."""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec

from s3ml.attestation import Alternative, AppraisalPolicy, Tee, encode_policy
from s3ml.keyservice.client import control_message
from s3ml.keyservice.documents import (
    PROPOSAL_TYPE,
    ControlEntry,
    DeploymentKeys,
    EntriesReply,
    EntryBody,
    GenesisEntry,
    JoinEntry,
    KeysEntry,
    KeyServiceDocument,
    Owner,
    OwnersDocument,
    PresenceEntry,
    Proposal,
    ReleasesEntry,
    WitnessesDocument,
)
from s3ml.keyservice.log import Chain, Written
from s3ml.keyservice.parsing import encode_document
from s3ml.keyservice.state import State, apply
from s3ml.primitives.encoding import to_base64
from s3ml.primitives.envelope import Envelope
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.cosignature import with_cosignatures
from tests.transparency.transparency_world import signer

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
OWNER_KEYS = tuple(SigningKey.from_raw(bytes([n]) * 32) for n in (1, 2, 3))
CHECKPOINT_KEY = SigningKey.from_raw(bytes([21]) * 32)
NEW_CHECKPOINT_KEY = SigningKey.from_raw(bytes([22]) * 32)
STATEMENT_KEY = SigningKey.from_raw(bytes([23]) * 32)
WITNESSES = (signer(1), signer(2), signer(3))


def policy(measurement: str = "a") -> bytes:
    return encode_policy(
        AppraisalPolicy(accept=(Alternative(tee=Tee.SGX, measurements=(measurement * 64,)),))
    )


def keys(checkpoint: SigningKey = CHECKPOINT_KEY) -> DeploymentKeys:
    return DeploymentKeys(
        checkpoint=str(checkpoint.public),
        statement=str(STATEMENT_KEY.public),
        intake_kem=25722,
        intake=bytes(1216),
    )


def owners() -> tuple[Owner, ...]:
    named = zip(("ada", "bo", "cy"), OWNER_KEYS, strict=True)
    return tuple(Owner(name=name, key=str(key.public)) for name, key in named)


class Log:
    """A log that only ever follows the rules, unless it is told not to.

    Args:
        quorum: Of three witnesses; 0 names none.
        random: What tells two deployments apart.
    """

    def __init__(self, *, quorum: int = 2, random: bytes = bytes(32)) -> None:
        self.chain, self.state = Chain(), State()
        self.entries: list[bytes] = []
        self.time = NOW
        self.nonce = 0
        self.key = CHECKPOINT_KEY
        proposal = Proposal(
            owners=owners(),
            threshold=2,
            witnesses=tuple(str(one.public) for one in WITNESSES) if quorum else (),
            witness_quorum=quorum,
            key_service_policy=policy(),
            allow_simulated=False,
            random=random,
        )
        envelope = Envelope(payload_type=PROPOSAL_TYPE, payload=encode_document(proposal))
        for key in OWNER_KEYS[:2]:
            envelope = envelope.with_signature(key)
        self.append(GenesisEntry(proposal=envelope, keys=keys()))

    @property
    def deployment(self) -> str:
        return self.chain.deployment

    @property
    def origin(self) -> str:
        return f"s3ml/{self.deployment}"

    def append(self, body: EntryBody) -> None:
        self.time += timedelta(seconds=1)
        written = self.chain.build(body, time=self.time)
        entry = self.chain.append(written.data)
        self.state = apply(self.state, Written(data=written.data, entry=entry))
        self.entries.append(written.data)

    def control(self, resource: str, body: bytes, *, version: int = 1, previous: bytes | None = None) -> None:
        self.nonce += 1
        message = control_message(
            deployment=self.deployment,
            resource=resource,
            resource_version=version,
            previous_sha256="" if previous is None else hashlib.sha256(previous).hexdigest(),
            body=body,
            nonce=self.nonce.to_bytes(32, "big"),
            now=NOW,
        )
        statement = message.statement
        for key in OWNER_KEYS[:2]:
            statement = statement.with_signature(key)
        self.append(ControlEntry(statement=statement, body=body))

    def presence(self, seed: int = 0) -> None:
        self.append(PresenceEntry(replica="b" * 64, random=seed.to_bytes(32, "big")))

    def fill(self) -> "Log":
        """Append one of many kinds of entries."""
        self.control("policies/resnet", policy("c"))
        self.append(JoinEntry(replica="b" * 64, source="c" * 64, tee="sgx", measurement="a" * 64))
        self.presence()
        self.append(ReleasesEntry(first=0, count=3, sha256="d" * 64))
        self.control("deployment/owners", encode_document(OwnersDocument(owners=owners(), threshold=2)))
        self.presence(1)
        return self

    def upgrade(self) -> None:
        """Change the key service's policy, and with it the deployment's keys."""
        body = encode_document(KeyServiceDocument(policy=policy("e")))
        self.control("deployment/key-service", body)
        self.key = NEW_CHECKPOINT_KEY
        digest = hashlib.sha256(policy("e")).hexdigest()
        self.append(KeysEntry(number=2, policy_sha256=digest, keys=keys(NEW_CHECKPOINT_KEY)))

    def replace_witnesses(self) -> None:
        """Name two of the three, and both are the quorum."""
        document = WitnessesDocument(
            witnesses=tuple(str(one.public) for one in WITNESSES[1:3]), witness_quorum=2
        )
        self.control("deployment/witnesses", encode_document(document))

    def note(
        self, size: int | None = None, *, by: tuple[int, ...] = (0, 1), key: SigningKey | None = None
    ) -> str:
        """A checkpoint, signed, and cosigned by some witnesses."""
        size = len(self.entries) if size is None else size
        checkpoint = Checkpoint(origin=self.origin, size=size, root=self.chain.tree.root(size))
        note = sign_checkpoint(checkpoint, key or self.key)
        lines = [WITNESSES[n].cosign(note, timestamp=NOW) for n in by]
        return with_cosignatures(note, lines, [one.public for one in WITNESSES])


def write_log(path: Path, note: str, entries: list[bytes]) -> Path:
    """Write a file as `s3ml log export` does."""
    head = json.dumps({"format": "s3ml-log", "version": 1, "checkpoint": note})
    path.write_text("".join(f"{line}\n" for line in (head, *map(to_base64, entries))))
    return path


class Gateway:
    """A gateway whose key service shows whatever it is told to."""

    def __init__(self) -> None:
        self.note = ""
        self.entries: list[bytes] = []
        self.is_down = False
        self.batch = 256
        self.url = ""

    def show(self, log: Log, size: int | None = None, **options: tuple[int, ...]) -> None:
        size = len(log.entries) if size is None else size
        self.entries = log.entries[:size]
        self.note = log.note(size, **options)  # type: ignore[arg-type]

    def answer(self, path: str) -> bytes | None:
        parts = urlsplit(path)
        if self.is_down:
            return None
        if parts.path == "/keyservice/v1/checkpoint":
            return self.note.encode()
        query = parse_qs(parts.query)
        start, end = int(query["start"][0]), int(query["end"][0])
        found = self.entries[start : min(end, start + self.batch)]
        return msgspec.json.encode(EntriesReply(entries=tuple(found)))


@contextlib.contextmanager
def gateway() -> Iterator[Gateway]:
    """Serve a `Gateway` as long as the block."""
    made = Gateway()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = made.answer(self.path)
            self.send_response(503 if body is None else 200)
            self.send_header("content-length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join(120)

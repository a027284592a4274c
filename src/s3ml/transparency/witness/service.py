"""A witness at work: decide, keep, and only then answer.

One decision is made at a time, over all logs: the disk takes one flush at a time too. What was decided on is
compared once more when it is replaced.
"""

import threading
from dataclasses import dataclass

from s3ml.primitives.clock import Clock
from s3ml.primitives.signing import VerifyKey
from s3ml.transparency.cosignature import WitnessKey
from s3ml.transparency.note import Note, NoteSignature, note_key_id
from s3ml.transparency.witness.decision import Latest, Outcome, Verdict, Watched, decide
from s3ml.transparency.witness.logs import LogsFile
from s3ml.transparency.witness.request import AddCheckpoint, RequestMalformedError
from s3ml.transparency.witness.signer import WitnessSigner
from s3ml.transparency.witness.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What is said to a request.

    Args:
        outcome: Of the decision.
        origin: Of the log, where the request could be read.
        size: Of the checkpoint, where the request could be read.
        line: The cosignature without a line feed, where the checkpoint is cosigned.
    """

    outcome: Outcome
    origin: str = ""
    size: int = 0
    line: str = ""


class Witness:
    """Cosigns checkpoints; methods block, and are safe to call from several threads.

    Args:
        signer: The witness's secret.
        logs: Which logs it watches.
        store: What it must not forget.
        clock: What its cosignatures state; of one log, it is kept from running backwards.
    """

    def __init__(self, signer: WitnessSigner, logs: LogsFile, store: Store, clock: Clock) -> None:
        self._signer = signer
        self._logs = logs
        self._store = store
        self._clock = clock
        self._lock = threading.Lock()

    @property
    def public(self) -> WitnessKey:
        """The witness's name and public key."""
        return self._signer.public

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer a request, after its outcome is on the disk.

        Args:
            body: From an untrusted peer.

        Raises:
            StateUnavailableError: the state cannot be read or written: nothing was cosigned.
        """
        try:
            request = AddCheckpoint.parse(body)
        except RequestMalformedError as error:
            return Answer(outcome=Outcome(verdict=Verdict.MALFORMED, detail=f"{error}"))
        origin, size = request.checkpoint.origin, request.checkpoint.size
        keys = self._logs.current().get(origin)
        with self._lock:
            latest = self._store.latest(origin) if keys is not None else None
            outcome = decide(None if keys is None else Watched(keys=keys, latest=latest), request)
            line = ""
            if keys is not None and outcome.verdict is Verdict.COSIGN:
                line = self._keep(request, keys, latest)
        return Answer(outcome=outcome, origin=origin, size=size, line=line)

    def checkpoint(self, origin_sha256: str) -> str | None:
        """Return the newest checkpoint that was cosigned of a log, with the cosignature.

        Raises:
            StateUnavailableError: the state cannot be read.
        """
        return self._store.note(origin_sha256)

    def _keep(self, request: AddCheckpoint, keys: tuple[VerifyKey, ...], before: Latest | None) -> str:
        """Cosign a checkpoint, keep it, and return the signature line."""
        time = self._clock.now().replace(microsecond=0)
        if before is not None:
            time = max(time, before.time)
        line = self._signer.cosign(str(request.note), timestamp=time)
        checkpoint = request.checkpoint
        known = {note_key_id(checkpoint.origin, key) for key in keys}
        signed = [s for s in request.note.signatures if s.name == checkpoint.origin and s.key_id in known]
        note = Note(text=request.note.text, signatures=(*signed, NoteSignature.parse(line)))
        latest = Latest(size=checkpoint.size, root=checkpoint.root, time=time)
        self._store.advance(checkpoint.origin, before=before, latest=latest, note=str(note))
        return line

"""Witnesses of the model: the real core of each, over a state that is a value."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from s3ml.primitives.signing import SigningKey, VerifyKey
from s3ml.transparency.cosignature import WitnessKey
from s3ml.transparency.note import NoteSignature
from s3ml.transparency.witness.client import (
    WitnessConflictError,
    WitnessRefusedError,
    WitnessUnavailableError,
)
from s3ml.transparency.witness.decision import Latest, Verdict
from s3ml.transparency.witness.logs import LogsFile
from s3ml.transparency.witness.request import encode_request
from s3ml.transparency.witness.service import Answer, Witness
from s3ml.transparency.witness.signer import WitnessSigner
from s3ml.transparency.witness.store import StateMovedError
from tests.clocks import FakeClock

STATUSES = {
    Verdict.MALFORMED: 400,
    Verdict.UNSIGNED: 403,
    Verdict.UNKNOWN_LOG: 404,
    Verdict.INCONSISTENT: 422,
}


@dataclass(slots=True)
class OneHead:
    """A witness's store of one log."""

    newest: Latest | None = None

    def latest(self, origin: str) -> Latest | None:
        return self.newest

    def advance(self, origin: str, *, before: Latest | None, latest: Latest, note: str) -> None:
        if self.newest != before:
            raise StateMovedError("witness state: moved")
        self.newest = latest

    def note(self, origin_sha256: str) -> str | None:
        raise AssertionError("nobody asks")

    def heads(self) -> Mapping[str, Latest]:
        raise AssertionError("nobody asks")


class WatchedLog(LogsFile):
    """The configuration of a witness whose operator adds the log's keys as they are announced."""

    def __init__(self) -> None:
        self.logs: dict[str, tuple[VerifyKey, ...]] = {}

    def current(self) -> dict[str, tuple[VerifyKey, ...]]:
        return self.logs


@dataclass(slots=True)
class Panel:
    """All witnesses, and the network that leads to them.

    Args:
        count: How many.
        clock: Theirs.
        link: What becomes of the next requests: `ok`, `lost`, `unanswered` or `late`.
        late: Requests that are on their way still.
        asked: What was asked and said, since somebody last looked.
    """

    count: int
    clock: FakeClock
    link: str = "ok"
    logs: WatchedLog = field(default_factory=WatchedLog)
    stores: list[OneHead] = field(default_factory=list)
    witnesses: list[Witness] = field(default_factory=list)
    late: list[tuple[int, bytes]] = field(default_factory=list)
    asked: list[tuple[int, Answer]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for number in range(self.count):
            signer = WitnessSigner(f"w{number}.example", SigningKey.from_raw(bytes([100 + number]) * 32))
            store = OneHead()
            self.stores.append(store)
            self.witnesses.append(Witness(signer, self.logs, store, self.clock))

    @property
    def keys(self) -> tuple[WitnessKey, ...]:
        return tuple(one.public for one in self.witnesses)

    def receive(self, number: int, body: bytes) -> Answer:
        answer = self.witnesses[number].add_checkpoint(body)
        self.asked.append((number, answer))
        return answer


class Line:
    """The way to one witness, in the place of `WitnessClient`."""

    def __init__(self, panel: Panel, url: str) -> None:
        self.url = url
        self._panel = panel
        self._number = int(url)

    def add_checkpoint(self, *, old_size: int, proof: tuple[bytes, ...], note: str) -> tuple[str, ...]:
        body = encode_request(old_size=old_size, proof=proof, note=note)
        panel = self._panel
        if panel.link == "late":
            panel.late.append((self._number, body))
        if panel.link in {"late", "lost"}:
            raise WitnessUnavailableError(f"witness {self.url}: does not answer")
        answer = panel.receive(self._number, body)
        if panel.link == "unanswered":
            raise WitnessUnavailableError(f"witness {self.url}: does not answer")
        verdict = answer.outcome.verdict
        if verdict is Verdict.COSIGN:
            return (str(NoteSignature.parse(answer.line)),)
        if verdict is Verdict.STALE:
            raise WitnessConflictError("witness: knows another size", known_size=answer.outcome.known_size)
        raise WitnessRefusedError(answer.outcome.detail, status=STATUSES[verdict])

    def close(self) -> None:
        """There is nothing to close."""

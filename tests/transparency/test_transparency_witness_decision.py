"""The rule of a witness: each reason to refuse, and a model that it is held to under any requests."""

import dataclasses
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from s3ml.primitives.encoding import to_base64
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.signing import SigningKey
from s3ml.transparency.checkpoint import Checkpoint, sign_checkpoint
from s3ml.transparency.note import Note, NoteSignature, sign_note
from s3ml.transparency.witness.decision import Latest, Outcome, Verdict, Watched, decide
from s3ml.transparency.witness.request import (
    PROOF_LIMIT,
    AddCheckpoint,
    RequestMalformedError,
    encode_request,
)
from tests.clocks import NOW
from tests.transparency.transparency_world import LOG_KEY, ORIGIN, OTHER_KEY, Branch

LOG = Branch()


def known(size: int, *keys: SigningKey, branch: Branch = LOG) -> Watched:
    """What a witness knows that cosigned `size` of `branch`."""
    latest = Latest(size=size, root=branch.root(size), time=NOW) if size >= 0 else None
    return Watched(keys=tuple(key.public for key in keys or (LOG_KEY,)), latest=latest)


def asked(old: int, size: int, branch: Branch = LOG) -> AddCheckpoint:
    return AddCheckpoint.parse(branch.request(old, size))


def verdict(watched: Watched | None, request: AddCheckpoint) -> Verdict:
    return decide(watched, request).verdict


class TestCosigned:
    @pytest.mark.parametrize(("old", "new"), [(-1, 0), (-1, 5), (0, 5), (3, 5), (4, 8), (5, 5), (0, 0)])
    def test_what_appends(self, old: int, new: int) -> None:
        assert decide(known(old), asked(max(old, 0), new)) == Outcome(
            verdict=Verdict.COSIGN, known_size=max(old, 0)
        )

    def test_any_of_several_keys_may_sign(self) -> None:
        assert verdict(known(3, OTHER_KEY, LOG_KEY), asked(3, 5)) is Verdict.COSIGN
        assert verdict(known(3, LOG_KEY, OTHER_KEY), asked(3, 5)) is Verdict.COSIGN

    def test_signatures_of_others_are_passed_over(self) -> None:
        note = sign_note(Note.parse(LOG.note(5)).text, OTHER_KEY, name="stranger").rpartition("\n\n")[2]
        body = encode_request(old_size=0, proof=(), note=LOG.note(5) + note)
        assert verdict(known(-1), AddCheckpoint.parse(body)) is Verdict.COSIGN


class TestRefused:
    """Each check of the protocol refuses by itself."""

    def test_an_unknown_log(self) -> None:
        assert verdict(None, asked(0, 5)) is Verdict.UNKNOWN_LOG

    def test_a_checkpoint_of_another_key(self) -> None:
        assert verdict(known(3, OTHER_KEY), asked(3, 5)) is Verdict.UNSIGNED

    def test_a_signature_that_does_not_hold(self) -> None:
        """Also beside one that holds: the line names a known key, so the note is malformed."""
        request = asked(3, 5)
        (good,) = request.note.signatures
        bad = NoteSignature(name=good.name, key_id=good.key_id, signature=bytes(64))
        for signatures in ((bad,), (good, bad)):
            note = dataclasses.replace(request.note, signatures=signatures)
            assert verdict(known(3), dataclasses.replace(request, note=note)) is Verdict.UNSIGNED

    def test_an_old_size_beyond_the_checkpoint(self) -> None:
        assert verdict(known(6), asked(6, 5)) is Verdict.MALFORMED
        assert verdict(known(3), asked(6, 5)) is Verdict.MALFORMED

    @pytest.mark.parametrize("old", [0, 2, 4])
    def test_another_size_than_the_known_one(self, old: int) -> None:
        outcome = decide(known(3), asked(old, 5))
        assert (outcome.verdict, outcome.known_size) == (Verdict.STALE, 3)

    def test_a_smaller_checkpoint(self) -> None:
        assert decide(known(5), asked(3, 3)).known_size == 5
        assert verdict(known(5), asked(3, 3)) is Verdict.STALE

    @pytest.mark.parametrize("new", [3, 5, 8])
    def test_a_fork(self, new: int) -> None:
        assert verdict(known(3), asked(3, new, Branch("fork", since=2))) is Verdict.INCONSISTENT

    def test_a_proof_from_size_zero(self) -> None:
        request = dataclasses.replace(asked(0, 5), proof=(bytes(32),))
        assert verdict(known(-1), request) is Verdict.INCONSISTENT
        assert verdict(known(0), request) is Verdict.INCONSISTENT

    def test_a_proof_of_equal_sizes(self) -> None:
        request = dataclasses.replace(asked(5, 5), proof=(bytes(32),))
        assert verdict(known(5), request) is Verdict.INCONSISTENT

    def test_an_empty_log_with_another_root(self) -> None:
        note = sign_checkpoint(Checkpoint(origin=ORIGIN, size=0, root=bytes(32)), LOG_KEY)
        request = AddCheckpoint.parse(encode_request(old_size=0, proof=(), note=note))
        assert verdict(known(-1), request) is Verdict.INCONSISTENT

    @given(st.integers(0, 9), st.integers(1, 9), st.integers(0, 255))
    def test_a_changed_proof(self, place: int, bit: int, seed: int) -> None:
        request = asked(3, 11)
        index = place % len(request.proof)
        changed = bytearray(request.proof[index])
        changed[seed % 32] ^= 1 << (bit % 8)
        proof = (*request.proof[:index], bytes(changed), *request.proof[index + 1 :])
        assert verdict(known(3), dataclasses.replace(request, proof=proof)) is Verdict.INCONSISTENT


class TestRequest:
    """A body is a request in exactly one form."""

    def test_it_reads_back(self) -> None:
        request = AddCheckpoint.parse(LOG.request(3, 11))
        assert (request.old_size, request.proof) == (3, LOG.proof(3, 11))
        assert (request.checkpoint.origin, request.checkpoint.size) == (ORIGIN, 11)
        assert str(request.note) == LOG.note(11)

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"old 0\n\n",
            b"\n\n" + LOG.note(5).encode(),
            b"old 01\n\n" + LOG.note(5).encode(),
            b"old -1\n\n" + LOG.note(5).encode(),
            b"old  1\n\n" + LOG.note(5).encode(),
            b"Old 1\n\n" + LOG.note(5).encode(),
            b"old 9223372036854775808\n\n" + LOG.note(5).encode(),
            b"old 1\nAAAA\n\n" + LOG.note(5).encode(),
            b"old 1\n!\n\n" + LOG.note(5).encode(),
            b"old 1\n" + LOG.note(5).encode(),
            b"old 0\r\n\r\n" + LOG.note(5).encode(),
            b"old 0\n\n" + LOG.note(5).encode() + b"\xff",
            b"old 0\n\nno checkpoint\n\n" + LOG.note(5).encode().rpartition(b"\n\n")[2],
            b"old 0\n" + (to_base64(bytes(32)).encode() + b"\n") * 64 + b"\n" + LOG.note(5).encode(),
            b"old 0\n\n" + b"x" * 65536,
        ],
    )
    def test_anything_else_is_malformed(self, body: bytes) -> None:
        with pytest.raises(RequestMalformedError):
            AddCheckpoint.parse(body)

    def test_one_beyond_the_limits_is_not_made(self) -> None:
        with pytest.raises(ConfigurationError, match="at most 63"):
            encode_request(old_size=1, proof=[bytes(32)] * (PROOF_LIMIT + 1), note=LOG.note(5))
        with pytest.raises(ConfigurationError, match="65536"):
            encode_request(old_size=1, proof=(), note="x" * 65536)

    @given(st.binary(max_size=400))
    def test_any_bytes_are_refused_by_a_documented_error(self, body: bytes) -> None:
        with suppress(RequestMalformedError):
            AddCheckpoint.parse(body)


class WitnessModel(RuleBasedStateMachine):
    """Whatever is asked, all cosigned heads are of one log, and none is smaller than before."""

    branches = (Branch(), Branch("b", since=3), Branch("c", since=6), Branch(key=OTHER_KEY))

    def __init__(self) -> None:
        super().__init__()
        self.watched = known(-1)
        self.cosigned: list[tuple[int, bytes]] = []
        self.expected = 0

    @rule(branch=st.sampled_from(range(4)), old=st.integers(0, 12), size=st.integers(0, 12))
    def ask(self, branch: int, old: int, size: int) -> None:
        self.take(asked(old, size, self.branches[branch]), self.branches[branch])

    @rule(branch=st.sampled_from(range(4)), growth=st.integers(0, 4))
    def ask_from_what_is_known(self, branch: int, growth: int) -> None:
        old = self.watched.known_size
        self.take(asked(old, old + growth, self.branches[branch]), self.branches[branch])

    def take(self, request: AddCheckpoint, branch: Branch) -> None:
        outcome = decide(self.watched, request)
        old, size, root = request.old_size, request.checkpoint.size, request.checkpoint.root
        known_root = self.watched.latest.root if self.watched.latest is not None else branch.root(0)
        appends = old == self.expected <= size and branch.root(old) == known_root
        assert (outcome.verdict is Verdict.COSIGN) == (appends and branch.key is LOG_KEY)
        if outcome.verdict is Verdict.COSIGN:
            self.cosigned.append((size, root))
            self.watched = dataclasses.replace(self.watched, latest=Latest(size=size, root=root, time=NOW))
            self.expected = size

    @invariant()
    def sizes_never_go_back(self) -> None:
        sizes = [size for size, _ in self.cosigned]
        assert sizes == sorted(sizes)

    @invariant()
    def all_are_heads_of_one_log(self) -> None:
        assert not self.cosigned or any(
            all(branch.root(size) == root for size, root in self.cosigned) for branch in self.branches
        )


TestWitnessModel = WitnessModel.TestCase
TestWitnessModel.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)

"""A replica asks for shares, and nobody on the network can take from holders what they gave."""

import msgspec
import pytest

from s3ml.attestation import Evidence
from s3ml.keyservice.documents import RecoveryAsk, RecoveryRequestReply
from s3ml.keyservice.documents.recovery import FAILURES_LIMIT
from s3ml.keyservice.errors import BusyError, ConflictError, RefusedError, mismatch
from s3ml.keyservice.escrow import Findings, RecoveryIntake
from s3ml.keyservice.escrow.holder import verify_outcome
from s3ml.keyservice.escrow.intake import CAPACITY, LIFETIME_S, outcome_of
from s3ml.keyservice.storage.protocol import StorageUnavailableError
from s3ml.keyservice.vault import Vault
from s3ml.primitives.aead import StorageTamperedError
from s3ml.primitives.envelope import SignatureError
from s3ml.primitives.errors import UnavailableError
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from tests.keyservice.escrow_world import NAMES, STORED, Escrow, quote


@pytest.fixture
def escrow() -> Escrow:
    return Escrow()


def nonce(number: int) -> bytes:
    return bytes([number]) * 32


class TestTotalLoss:
    def test_the_whole_way(self, escrow: Escrow) -> None:
        """Split on one platform, lost, and recovered on another, by two of three holders."""
        escrow.lose_everything()
        reply = escrow.ask()
        assert escrow.recovered() is None
        first = escrow.intake.contribute(escrow.contribution(reply, 2))
        assert (first.state, first.contributed, first.missing) == ("open", ("cy",), 1)
        assert escrow.recovered() is None
        second = escrow.intake.contribute(escrow.contribution(reply, 0))
        assert (second.contributed, second.missing) == (("ada", "cy"), 0)
        found = escrow.recovered()
        assert found == escrow.wrapping_key
        assert found is not None
        vault = Vault(found, escrow.deployment)
        assert [vault.unwrap(name, escrow.stored[name]) for name in STORED] == [
            b"secret of " + name.kind.encode() for name in STORED
        ]

    def test_the_key_is_given_out_once(self, escrow: Escrow) -> None:
        escrow.intake.contribute(escrow.contribution(escrow.ask(), 0, 1))
        assert escrow.recovered() == escrow.wrapping_key
        assert escrow.recovered() is None
        (status,) = escrow.intake.status().requests
        assert (status.state, status.missing, status.contributed) == ("complete", 0, ("ada", "bo"))

    def test_storage_is_away_while_the_key_is_taken(self, escrow: Escrow) -> None:
        """The last holder sends the same contribution again, and nobody else is asked."""
        contribution = escrow.contribution(escrow.ask(), 0, 1)
        escrow.intake.contribute(contribution)

        def away(_: SecretBytes) -> None:
            raise StorageUnavailableError("storage: away")

        with pytest.raises(StorageUnavailableError):
            escrow.intake.recover(away)
        assert escrow.intake.contribute(contribution).missing == 0
        assert escrow.recovered() == escrow.wrapping_key

    def test_a_key_that_opens_nothing_ends_the_request(self, escrow: Escrow) -> None:
        escrow.intake.contribute(escrow.contribution(escrow.ask(), 0, 1))

        def wrong(_: SecretBytes) -> None:
            raise StorageTamperedError("stored keys: do not open")

        with pytest.raises(StorageTamperedError):
            escrow.intake.recover(wrong)
        assert escrow.intake.status().requests == ()

    def test_afterwards_another_one_can_begin(self, escrow: Escrow) -> None:
        first = escrow.ask()
        escrow.intake.contribute(escrow.contribution(first, 0, 1))
        escrow.recovered()
        second = escrow.ask()
        assert second.request.public_key != first.request.public_key
        assert len(escrow.intake.status().requests) == 1


class TestAsking:
    def test_whoever_asks_again_is_shown_the_open_recovery(self, escrow: Escrow) -> None:
        """Nobody throws away what holders gave by asking anew."""
        first = escrow.ask(nonce=nonce(1))
        escrow.intake.contribute(escrow.contribution(first, 0))
        assert escrow.ask(nonce=nonce(2)) == first
        (status,) = escrow.intake.status().requests
        assert status.contributed == ("ada",)

    def test_rehearsals_are_told_apart_by_their_nonces(self, escrow: Escrow) -> None:
        first, second = (escrow.ask("rehearsal", nonce(number)) for number in (1, 2))
        assert first.request.public_key != second.request.public_key
        assert escrow.ask("rehearsal", nonce(1)) == first

    def test_a_finished_rehearsal_is_shown_again(self, escrow: Escrow) -> None:
        reply = escrow.ask("rehearsal")
        escrow.intake.contribute(escrow.contribution(reply, 0, 1))
        assert escrow.ask("rehearsal") == reply

    def test_a_set_that_the_deployment_did_not_sign(self, escrow: Escrow) -> None:
        """Storage offers shares of its own making: nobody is asked for them."""
        escrow.shares = escrow.make(statement_key=SigningKey.generate())
        with pytest.raises(SignatureError):
            escrow.ask()

    def test_new_shares_end_requests_for_older_ones(self, escrow: Escrow) -> None:
        older = escrow.ask()
        contribution = escrow.contribution(older, 0)
        escrow.shares = escrow.make()
        assert escrow.ask().request.share_set != older.request.share_set
        with pytest.raises(ConflictError, match="is not open at this replica"):
            escrow.intake.contribute(contribution)

    def test_a_tee_that_does_not_answer(self, escrow: Escrow) -> None:
        def broken(_: bytes) -> Evidence:
            raise UnavailableError("quoting service: does not answer")

        escrow.intake = RecoveryIntake(broken, escrow.clock, escrow.check)
        with pytest.raises(UnavailableError, match="quoting service"):
            escrow.ask()
        assert escrow.intake.status().requests == ()


class TestBounds:
    def test_requests_end(self, escrow: Escrow) -> None:
        contribution = escrow.contribution(escrow.ask(), 0)
        escrow.clock.advance(LIFETIME_S)
        with pytest.raises(ConflictError, match="the request is over"):
            escrow.intake.contribute(contribution)
        assert escrow.intake.status().requests == ()

    def test_a_flood_of_rehearsals_spares_a_recovery(self, escrow: Escrow) -> None:
        recovery = escrow.ask()
        for number in range(3 * CAPACITY):
            escrow.ask("rehearsal", nonce(number))
        assert len(escrow.intake.status().requests) == CAPACITY
        assert escrow.ask() == recovery

    def test_a_flood_spares_rehearsals_with_contributions(self, escrow: Escrow) -> None:
        reply = escrow.ask("rehearsal", nonce(0))
        escrow.intake.contribute(escrow.contribution(reply, 0))
        for number in range(1, 3 * CAPACITY):
            escrow.ask("rehearsal", nonce(number))
        assert escrow.intake.contribute(escrow.contribution(reply, 1)).outcome is not None

    def test_when_all_have_contributions(self, escrow: Escrow) -> None:
        for number in range(CAPACITY):
            escrow.intake.contribute(escrow.contribution(escrow.ask("rehearsal", nonce(number)), 0))
        with pytest.raises(BusyError, match="too many rehearsals"):
            escrow.ask("rehearsal", nonce(99))

    def test_finished_ones_make_room(self, escrow: Escrow) -> None:
        for number in range(CAPACITY):
            escrow.intake.contribute(escrow.contribution(escrow.ask("rehearsal", nonce(number)), 0, 1))
        escrow.ask("rehearsal", nonce(99))

    def test_an_unknown_request(self, escrow: Escrow) -> None:
        given = escrow.contribution(escrow.ask(), 0)
        escrow.lose_everything()
        with pytest.raises(ConflictError, match=f"request {given.request} is not open at this replica"):
            escrow.intake.contribute(given)


class TestRehearsal:
    def outcome(self, escrow: Escrow, reply: RecoveryRequestReply) -> tuple[int, list[str]]:
        status = escrow.intake.contribute(escrow.contribution(reply, 1, 2))
        assert status.outcome is not None
        assert status.state == "complete"
        found = verify_outcome(status.outcome, escrow.verify(reply), now=escrow.clock.now())
        assert found.failures == len(found.failed)
        return found.opened, [one.claim for one in found.failed]

    def test_everything_opens(self, escrow: Escrow) -> None:
        assert self.outcome(escrow, escrow.ask("rehearsal")) == (3, [])

    def test_a_secret_is_missing(self, escrow: Escrow) -> None:
        del escrow.stored[STORED[1]]
        assert self.outcome(escrow, escrow.ask("rehearsal")) == (2, ["stored statement-key"])

    def test_the_shares_are_of_another_key(self, escrow: Escrow) -> None:
        """The shares hold, and yet the backup is worthless: that is what rehearsing is for."""
        escrow.shares = escrow.make(wrapping_key=SecretBytes(bytes(32)))
        opened, failed = self.outcome(escrow, escrow.ask("rehearsal"))
        assert (opened, len(failed)) == (0, 3)

    def test_it_never_gives_the_key_out(self, escrow: Escrow) -> None:
        self.outcome(escrow, escrow.ask("rehearsal"))
        assert escrow.recovered() is None

    def test_what_was_given_for_it_counts_for_no_recovery(self, escrow: Escrow) -> None:
        given = escrow.contribution(escrow.ask("rehearsal"), 0, 1)
        recovery = escrow.verify(escrow.ask())
        with pytest.raises(RefusedError, match="for a recovery, got another"):
            escrow.intake.contribute(msgspec.structs.replace(given, request=recovery.request_id))
        assert escrow.recovered() is None

    def test_storage_fails_while_it_is_held(self, escrow: Escrow) -> None:
        def broken(_: SecretBytes) -> Findings:
            raise StorageUnavailableError("storage: disk full")

        escrow.intake = RecoveryIntake(quote, escrow.clock, broken)
        reply = escrow.ask("rehearsal")
        with pytest.raises(StorageUnavailableError):
            escrow.intake.contribute(escrow.contribution(reply, 0, 1))
        assert escrow.intake.status().requests == ()

    def test_a_long_list_of_failures_is_cut_and_counted(self) -> None:
        failed = tuple(mismatch(f"{number}", expected="opens", got="no") for number in range(200))
        outcome = outcome_of("ab" * 32, Findings(opened=0, failed=failed))
        assert (outcome.failures, len(outcome.failed)) == (200, FAILURES_LIMIT)


class TestStatus:
    def test_it_says_who_and_how_many(self, escrow: Escrow) -> None:
        escrow.intake.contribute(escrow.contribution(escrow.ask(), 1))
        (status,) = escrow.intake.status().requests
        assert (status.purpose, status.threshold, status.missing) == ("recovery", 2, 1)
        assert status.contributed == (NAMES[1],)

    def test_asking_is_typed(self) -> None:
        with pytest.raises(TypeError):
            RecoveryAsk(purpose="recovery")  # type: ignore[call-arg]

"""`s3ml recovery`, as owners and holders run it, against a key service that loses its platform."""

import stat
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from s3ml.apps.governance.recovery import ask_replica
from s3ml.attestation import encode_evidence
from s3ml.keyservice.client import KeyServiceClient
from s3ml.keyservice.documents import ContributionRequest, RecoveryAsk, RecoveryRequestReply
from s3ml.keyservice.replica import Phase
from s3ml.primitives.errors import UntrustedPeerError
from s3ml.wire.hpke import Kem, PrivateKey
from tests.apps.recovery_site import Desk, Platform, Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str], site: Site) -> Desk:
    return Desk(tmp_path, capfd, site)


@pytest.fixture
def named(desk: Desk) -> Desk:
    assert desk.sign(2, "ada", "bo", "cy") == 0
    return desk


def request(desk: Desk, purpose: str = "recovery") -> str:
    file = desk.path(f"{purpose}.json")
    assert desk.both("request", "--purpose", purpose, "-o", file) == 0
    return file


def contribution(desk: Desk, file: str, name: str) -> str:
    output = desk.path(f"{name}.contribution")
    words = [file, *desk.identity(name), "--yes", "-o", output]
    assert desk.trusting("contribute", *words) == 0
    return output


class TestSigning:
    def test_what_is_signed_is_said(self, desk: Desk) -> None:
        assert desk.sign(2, "ada", "bo", "cy") == 0
        assert "Any 2 of these 3 recover the deployment's keys together" in desk.err
        assert "SIMULATED" in desk.err
        assert "deployment/recovery: version 1 holds" in desk.out

    def test_a_threshold_of_one_is_warned_about(self, desk: Desk) -> None:
        assert desk.sign(1, "ada", "bo") == 0
        assert "ANY SINGLE HOLDER" in desk.err

    def test_a_second_owner_signs_the_message(self, desk: Desk) -> None:
        waiting = desk.path("waiting.json")
        words = ["--threshold", "1", *desk.holders("ada"), "--key", desk.owners[0], "-o", waiting]
        assert desk.both("sign", *words) == 0
        assert "1 more owner(s)" in desk.out
        assert desk.both("sign", "--message", waiting, "--key", desk.owners[1]) == 0
        assert "version 1 holds" in desk.out

    def test_a_threshold_over_the_holders(self, desk: Desk) -> None:
        assert desk.sign(3, "ada", "bo") == 3
        assert desk.err == (
            "s3ml: deployment/recovery: threshold: expected at most 2 (the recipients), got 3\n"
        )

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            ([], "expected --threshold and --holder, or --message"),
            (["--threshold", "1", "--holder", "ada"], "expected NAME=age1… or NAME=FILE"),
            (
                ["--threshold", "1", "--holder", "ada=age1qq"],
                "recovery key of ada: expected an age recipient",
            ),
            (["--threshold", "1", "--holder", "Ada=age1qq"], "recovery key: expected 1 to 63"),
            (["--threshold", "1", "--holder", "ada=/nowhere"], "recovery key /nowhere: No such file"),
        ],
    )
    def test_bad_input_is_one_line(self, desk: Desk, words: list[str], told: str) -> None:
        assert desk.both("sign", *words, "--key", desk.owners[0]) == 2
        assert told in desk.err
        assert desk.err.count("\n") == 1

    def test_a_file_that_is_no_message(self, desk: Desk) -> None:
        assert desk.both("sign", "--message", desk.owners[0], "--key", desk.owners[0]) == 2
        assert "is no message" in desk.err


class TestTotalLoss:
    def test_two_holders_apart_bring_it_back(self, named: Desk, site: Site) -> None:
        site.lose_the_platform()
        file = request(named)
        assert "RECOVERY" in named.err
        first, second = (contribution(named, file, name) for name in ("cy", "ada"))
        assert named.online("submit", first) == 0
        assert "cy of 2 needed holders contributed: 1 more needed" in named.out
        assert named.online("status", "--json") == 0
        assert named.json["requests"][0]["missing"] == 1
        assert named.online("submit", second, "--json") == 0
        assert named.json["contributed"] == ["ada", "cy"]
        assert site.world.service.replica.phase is not Phase.SEALED

    def test_an_answer_from_a_machine_without_a_network(self, named: Desk, site: Site) -> None:
        kept = named.path("kept.json")
        assert named.online("shares", "-o", kept) == 0
        site.lose_the_platform()
        file, output = request(named), named.path("answer")
        words = ["--request", file, *named.identity("ada", "bo"), "-o", output]
        assert named.trusting("combine", kept, *words) == 0
        assert stat.S_IMODE(Path(output).stat().st_mode) == 0o600
        assert named.online("submit", output, "--json") == 0
        assert named.json["missing"] == 0

    def test_a_replica_that_has_its_keys_asks_for_none(self, named: Desk) -> None:
        assert named.both("request", "--purpose", "recovery", "-o", named.path("r")) == 3
        assert "expected a sealed replica" in named.err

    def test_nobody_holds_shares(self, desk: Desk) -> None:
        assert desk.online("shares", "-o", desk.path("s")) == 3
        assert "owners name holders: s3ml recovery sign" in desk.err

    def test_submitting_to_two_requests(self, named: Desk) -> None:
        one, two = named.path("one"), named.path("two")
        for path, digest in ((one, "ab" * 32), (two, "cd" * 32)):
            Path(path).write_bytes(msgspec.json.encode(ContributionRequest(request=digest, sealed=b"x")))
        assert named.online("submit", one, two) == 2
        assert "expected at least one, all for one request" in named.err

    def test_submitting_to_another_replica(self, named: Desk) -> None:
        one = named.path("one")
        Path(one).write_bytes(msgspec.json.encode(ContributionRequest(request="ab" * 32, sealed=b"x")))
        assert named.online("submit", one) == 3
        assert "is not open at this replica" in named.err


class TestHolders:
    """What a holder's tool refuses before the share leaves."""

    @pytest.fixture
    def file(self, named: Desk) -> str:
        return request(named, "rehearsal")

    def refused(self, desk: Desk, file: str, *words: str) -> str:
        output = desk.path("never")
        status = desk.trusting("contribute", file, *(words or desk.identity("ada")), "--yes", "-o", output)
        assert status == 3
        assert not Path(output).exists()
        return desk.err

    def change(self, file: str, **fields: object) -> None:
        reply = msgspec.json.decode(Path(file).read_bytes(), type=RecoveryRequestReply)
        changed = msgspec.structs.replace(
            reply, request=msgspec.structs.replace(reply.request, **fields), authority=None
        )
        Path(file).write_bytes(msgspec.json.encode(changed))

    def test_they_see_what_is_asked_and_by_which_code(self, named: Desk, file: str) -> None:
        contribution(named, file, "ada")
        assert "REHEARSAL" in named.err
        assert "Asked by code of measurement" in named.err
        assert "SIMULATED" in named.err

    def test_a_relayed_request(self, named: Desk, file: str) -> None:
        """Honest evidence, an attacker's key."""
        self.change(file, public_key=PrivateKey.generate(Kem.MLKEM768_X25519).public)
        assert "report_data: expected" in self.refused(named, file)

    def test_a_rehearsal_that_turned_into_a_recovery(self, named: Desk, file: str) -> None:
        self.change(file, purpose="recovery")
        assert "report_data: expected" in self.refused(named, file)

    def test_a_request_of_other_code(self, named: Desk, file: str, site: Site) -> None:
        attacker = Platform(site._pki, 1)
        attacker._measurement = bytes(32)
        self.change(file, evidence=encode_evidence(attacker.quote(bytes(64))))
        assert "measurement: expected" in self.refused(named, file)

    def test_a_request_of_another_deployment(self, named: Desk, file: str) -> None:
        self.change(file, deployment="ab" * 32)
        assert "deployment: expected" in self.refused(named, file)

    def test_following_owners_without_their_chain(self, named: Desk, file: str) -> None:
        self.change(file)
        words = [*named.identity("ada"), "--follow-owners", "--yes", "-o", named.path("x")]
        assert named.trusting("contribute", file, *words) == 2
        assert "expected the owners' chain in it" in named.err

    def test_following_owners(self, named: Desk, file: str) -> None:
        words = [*named.identity("ada"), "--follow-owners", "--yes", "-o", named.path("x")]
        assert named.trusting("contribute", file, *words) == 0

    def test_an_identity_of_nobody(self, named: Desk, file: str) -> None:
        assert named.run("keygen", named.path("mallory")) == 0
        words = [*named.identity("mallory"), "--yes", "-o", named.path("x")]
        assert named.trusting("contribute", file, *words) == 2
        assert "opens none of these shares; they are those of ada, bo, cy" in named.err

    def test_they_are_asked(self, named: Desk, file: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("click.confirm", lambda *_, **__: (_ for _ in ()).throw(SystemExit(9)))
        with pytest.raises(SystemExit):
            named.trusting("contribute", file, *named.identity("ada"), "-o", named.path("x"))
        assert not Path(named.path("x")).exists()

    def test_a_file_that_is_no_request(self, named: Desk) -> None:
        words = [named.owners[0], *named.identity("ada"), "-o", named.path("x")]
        assert named.trusting("contribute", *words) == 2
        assert "recovery request" in named.err


class TestRehearsing:
    def test_two_identities(self, named: Desk, site: Site) -> None:
        size = site.world.view.size
        assert named.both("rehearse", *named.identity("ada", "cy")) == 0
        assert "RECOVERABLE: all 3 stored secrets open" in named.out
        assert "SIMULATED" in named.err
        assert site.world.view.size == size

    def test_contributions_from_files(self, named: Desk) -> None:
        file = request(named, "rehearsal")
        given = [contribution(named, file, name) for name in ("ada", "bo")]
        words = [word for path in given for word in ("--contribution", path)]
        assert named.both("rehearse", "--request", file, *words, "--json") == 0
        assert named.json["is_recoverable"] is True
        assert (named.json["opened"], named.json["failures"], named.json["is_simulated"]) == (3, 0, True)

    def test_too_few(self, named: Desk) -> None:
        assert named.both("rehearse", *named.identity("ada")) == 2
        assert "expected shares of 2 holders, got those of ada" in named.err

    def test_nobody(self, named: Desk) -> None:
        assert named.both("rehearse") == 2
        assert "expected --identity or --contribution, got neither" in named.err

    def test_contributions_without_their_request(self, named: Desk) -> None:
        assert named.both("rehearse", "--contribution", named.path("x")) == 2
        assert "expected --request FILE" in named.err

    def test_a_backup_that_is_broken(self, named: Desk, site: Site) -> None:
        """The shares hold, and a stored key was damaged: only a rehearsal shows it."""
        site.lose_the_platform("UPDATE secrets SET ciphertext = zeroblob(100) WHERE kind = 'statement-key'")
        assert named.both("rehearse", *named.identity("ada", "bo")) == 3
        assert "stored statement-key" in named.out
        assert "NOT RECOVERABLE: 2 open, 1 do not" in named.out

    def test_a_recovery_is_no_rehearsal(self, named: Desk, site: Site) -> None:
        site.lose_the_platform()
        file = request(named)
        assert named.both("rehearse", "--request", file, *named.identity("ada", "bo")) == 2
        assert "expected a rehearsal, got a recovery" in named.err


class TestAReplicaThatAnswersSomethingElse:
    """Honest evidence for another question is no answer."""

    class Liar(KeyServiceClient):
        def __init__(self, answer: RecoveryRequestReply) -> None:
            self.answer = answer

        def recovery_request(self, ask: RecoveryAsk) -> RecoveryRequestReply:
            return self.answer

    @pytest.fixture
    def old(self, named: Desk) -> RecoveryRequestReply:
        return msgspec.json.decode(Path(request(named, "rehearsal")).read_bytes(), type=RecoveryRequestReply)

    def test_another_purpose(self, old: RecoveryRequestReply) -> None:
        with pytest.raises(UntrustedPeerError, match="purpose: expected recovery, got rehearsal"):
            ask_replica(self.Liar(old), "recovery")

    def test_an_older_rehearsal(self, old: RecoveryRequestReply) -> None:
        with pytest.raises(UntrustedPeerError, match="over the nonce that was sent"):
            ask_replica(self.Liar(old), "rehearsal")


class TestStatus:
    def test_none_open(self, desk: Desk) -> None:
        assert desk.online("status") == 0
        assert "no requests are open" in desk.out

    def test_who_contributed(self, named: Desk) -> None:
        file = request(named, "rehearsal")
        assert named.online("submit", contribution(named, file, "bo")) == 0
        assert named.online("status") == 0
        assert "bo contributed; 1 of 2 missing" in named.out

    def test_json_of_a_request(self, named: Desk) -> None:
        words = ["--purpose", "rehearsal", "-o", named.path("r"), "--json"]
        assert named.both("request", *words) == 0
        assert named.json["holders"] == ["ada", "bo", "cy"]
        assert named.json["is_simulated"] is True

    def test_nothing_answers(self, desk: Desk) -> None:
        assert desk.run("status", "--replica", "http://127.0.0.1:9") == 4

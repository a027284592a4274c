"""`s3ml verify-evidence`: offline, every step numbered, one line for bad input."""

import base64
import json
from pathlib import Path

import pytest

from s3ml.apps.cli.root import run
from s3ml.attestation import encode_evidence, encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.attestation.verify.steps import STEPS
from tests.attestation.attestation_world import CREATED, NOW, REPORT_DATA, World

AT = ("--at", NOW.isoformat())


@pytest.fixture(scope="module")
def honest() -> World:
    return World.honest(SimulatedPKI.create(CREATED))


@pytest.fixture
def folder(tmp_path: Path, honest: World) -> Path:
    (tmp_path / "evidence.json").write_bytes(encode_evidence(honest.evidence))
    (tmp_path / "policy.toml").write_bytes(encode_policy(honest.policy))
    return tmp_path


def verify(folder: Path, *arguments: str) -> int:
    return run(
        [
            "verify-evidence",
            str(folder / "evidence.json"),
            "--policy",
            str(folder / "policy.toml"),
            *arguments,
        ]
    )


class TestHonestEvidence:
    def test_every_step_is_printed_with_its_number(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify(folder, *AT, "--report-data", REPORT_DATA.hex()) == 0
        told = capsys.readouterr()
        for number, (title, _) in enumerate(STEPS, start=1):
            assert f"✓ {number:>2}  {title}" in told.out
        assert "VERIFIED" in told.out
        assert "SIMULATED" in told.err

    def test_json_says_the_same(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert verify(folder, *AT, "--report-data", REPORT_DATA.hex(), "--json") == 0
        told = json.loads(capsys.readouterr().out)
        assert (told["is_verified"], told["is_simulated"], told["mismatches"]) == (True, True, [])
        assert [step["holds"] for step in told["steps"]] == [True] * len(STEPS)

    def test_without_report_data_freshness_is_said_to_be_unchecked(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify(folder, *AT) == 0
        told = capsys.readouterr().out
        assert "NOT CHECKED" in told
        assert "freshness unknown" in told
        assert verify(folder, *AT, "--json") == 0
        document = json.loads(capsys.readouterr().out)
        assert [step["number"] for step in document["steps"] if step["holds"] is None] == [8]

    def test_a_note_of_the_policy_is_shown(
        self, folder: Path, honest: World, capsys: pytest.CaptureFixture[str]
    ) -> None:
        policy = honest.with_policy(warn_collateral_age_s=60).policy
        (folder / "policy.toml").write_bytes(encode_policy(policy))
        assert verify(folder, *AT) == 0
        assert "collateral is 3600 s old: renew it" in capsys.readouterr().err


class TestLies:
    def test_another_request_is_rejected_with_what_was_expected(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify(folder, *AT, "--report-data", "00" * 64) == 3
        told = capsys.readouterr().out
        assert "✗  8  The quote answers this very request" in told
        assert f"expected  {'00' * 64}" in told
        assert f"got       {REPORT_DATA.hex()}" in told

    def test_what_a_broken_signature_leaves_unproven_is_marked(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = json.loads((folder / "evidence.json").read_text())
        quote = bytearray(base64.b64decode(document["quote"]))
        quote[440] ^= 1
        document["quote"] = base64.b64encode(quote).decode()
        (folder / "evidence.json").write_text(json.dumps(document))
        assert verify(folder, "--json", "--at", "2027-01-01T00:00:00Z") == 3
        told = json.loads(capsys.readouterr().out)
        claims = {mismatch["claim"] for mismatch in told["mismatches"]}
        assert {"quote_signature", "collateral_validity", "measurement"} <= claims
        held = {step["number"] for step in told["steps"] if step["holds"]}
        assert held == {1, 2, 3}
        assert verify(folder, *AT) == 3
        assert "unproven: claimed by a quote whose signature does not hold" in capsys.readouterr().out

    def test_another_kind_of_tee_ends_at_the_first_step(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / "policy.toml").write_text(
            f'version = 1\n[[accept]]\ntee = "sgx"\nmeasurements = ["{"ab" * 32}"]\n'
        )
        assert verify(folder, *AT) == 3
        told = capsys.readouterr().out
        assert "✗  1" in told
        assert "expected  sgx" in told


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "line"),
        [
            (("--at", "noon"), "--at: expected a time such as"),
            (("--at", "2026-03-01T12:00:00"), "--at: expected a time with its zone"),
            (("--report-data", "xy"), "--report-data: expected 128 hexadecimal digits"),
        ],
    )
    def test_a_bad_option_is_one_line(
        self, folder: Path, arguments: tuple[str, ...], line: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert verify(folder, *arguments) == 2
        told = capsys.readouterr().err
        assert told.startswith(f"s3ml: {line}")
        assert told.count("\n") == 1

    @pytest.mark.parametrize(
        ("name", "content", "line"),
        [
            ("evidence.json", b"{", "expected version 1 of"),
            ("evidence.json", b'{"tee":"simulated","quote":"AAAA"}', "quote: expected at least"),
            ("policy.toml", b"version = 2", "policy:"),
        ],
    )
    def test_a_bad_file_is_one_line_that_names_it(
        self, folder: Path, name: str, content: bytes, line: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (folder / name).write_bytes(content)
        assert verify(folder, *AT) == 2
        told = capsys.readouterr().err
        assert name in told
        assert line in told
        assert told.count("\n") == 1

    def test_a_quote_that_cannot_be_read_is_one_line(
        self, folder: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        document = {"tee": "simulated", "quote": base64.b64encode(bytes(5000)).decode()}
        (folder / "evidence.json").write_text(json.dumps(document))
        assert verify(folder, *AT) == 2
        assert "quote: version: expected 3" in capsys.readouterr().err

    def test_a_missing_file_is_one_line(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (folder / "evidence.json").unlink()
        assert verify(folder) == 2
        assert capsys.readouterr().err.count("\n") == 1

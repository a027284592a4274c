"""`s3ml policy lint`, `explain`, `diff` and `schema`: offline, for people and for scripts."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from s3ml.apps.cli.policy import _remarks
from s3ml.apps.cli.root import run
from s3ml.apps.transparency.describing import describe_body
from s3ml.attestation import Alternative, AppraisalPolicy, SnpTcb, Tee, encode_policy
from s3ml.attestation.policy.lint import RULES
from s3ml.attestation.policy.schema import encode_policy_schema
from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import CREATED

CODES = tuple(letter * 64 for letter in "abc")
SOUND = Alternative(tee=Tee.SGX, measurements=CODES[:1], min_tcb_evaluation_data_number=17)
SNP = Alternative(tee=Tee.SEV_SNP, measurements=("a" * 96,), min_tcb=SnpTcb(snp=8, microcode=115))
SIMULATED = Alternative(tee=Tee.SIMULATED, root=SimulatedPKI.create(CREATED).root_der, measurements=CODES[:1])


def changed(alternative: Alternative, **changes: Any) -> Alternative:
    return msgspec.structs.replace(alternative, **changes)


class Desk:
    """A folder with policies, and what the last command printed."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capsys = capsys
        self.out = self.err = ""

    def write(self, name: str, *alternatives: Alternative) -> str:
        path = self.folder / name
        path.write_bytes(encode_policy(AppraisalPolicy(accept=alternatives)))
        return str(path)

    def run(self, *words: str) -> int:
        status = run(["policy", *words])
        self.out, self.err = self.capsys.readouterr()
        return status


@pytest.fixture
def desk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys)


class TestLint:
    def test_a_sound_policy_ends_well(self, desk: Desk) -> None:
        assert desk.run("lint", desk.write("p.toml", SOUND)) == 0
        assert f"p.toml: keeps all {len(RULES)} rules" in desk.out

    def test_an_error_ends_with_1_and_says_what_to_do(self, desk: Desk) -> None:
        assert (
            desk.run("lint", desk.write("p.toml", SOUND, changed(SNP, min_tcb=SnpTcb(), allow_smt=True))) == 1
        )
        assert "ERROR  P16 alternative 2, min_tcb: accepts any firmware" in desk.out
        assert "set min_tcb to the versions of AMD's latest security bulletin" in desk.out
        assert "WARNING  P18" in desk.out
        assert "p.toml: 1 error, 1 warning" in desk.out

    def test_warnings_alone_end_with_0(self, desk: Desk) -> None:
        file = desk.write("p.toml", changed(SNP, allow_smt=True, require_crl=False))
        assert desk.run("lint", file) == 0
        assert "p.toml: 2 warnings" in desk.out

    def test_json_says_the_same(self, desk: Desk) -> None:
        assert desk.run("lint", "--json", desk.write("p.toml", SOUND, SIMULATED)) == 1
        told = json.loads(desk.out)
        assert told["rules"] == len(RULES)
        assert [(f["rule"], f["severity"], f["alternative"]) for f in told["findings"]] == [
            ("P23", "error", 2),
            ("P13", "warning", 2),
        ]

    def test_no_policy_is_one_line(self, desk: Desk) -> None:
        (desk.folder / "p.toml").write_text("version = 2")
        assert desk.run("lint", str(desk.folder / "p.toml")) == 2
        assert desk.err.startswith("s3ml: ")
        assert desk.err.count("\n") == 1


class TestExplain:
    def test_it_says_what_is_accepted(self, desk: Desk) -> None:
        assert desk.run("explain", desk.write("p.toml", SOUND, SNP)) == 0
        assert "Accepts any one of 2:" in desk.out
        assert "1. An enclave of Intel SGX" in desk.out
        assert f"   code measured (MRENCLAVE) as {CODES[0]}" in desk.out
        assert "   chip: ANY" in desk.out
        assert desk.err == ""

    def test_simulated_is_loud(self, desk: Desk) -> None:
        assert desk.run("explain", desk.write("p.toml", SIMULATED)) == 0
        assert "SIMULATED" in desk.err
        assert "SIMULATED, protects nothing" in desk.out

    def test_json_says_the_same(self, desk: Desk) -> None:
        assert desk.run("explain", "--json", desk.write("p.toml", SOUND)) == 0
        told = json.loads(desk.out)
        assert told["is_simulated"] is False
        assert told["alternatives"][0]["place"] == 1
        assert f"code measured (MRENCLAVE) as {CODES[0]}" in told["alternatives"][0]["lines"]


class TestDiff:
    @pytest.mark.parametrize(
        ("new", "status", "verdict"),
        [
            ((SOUND,), 0, "IDENTICAL"),
            ((changed(SOUND, max_collateral_age_s=60),), 0, "NARROWER"),
            ((changed(SOUND, measurements=CODES[:2]),), 1, "WIDER"),
            ((changed(SOUND, measurements=CODES[:2], max_collateral_age_s=60),), 1, "BOTH"),
            ((changed(SOUND, measurements=CODES[2:]),), 1, "INCOMPARABLE"),
        ],
        ids=str,
    )
    def test_the_status_says_whether_it_is_wider(
        self, desk: Desk, new: tuple[Alternative, ...], status: int, verdict: str
    ) -> None:
        assert desk.run("diff", desk.write("old.toml", SOUND), desk.write("new.toml", *new)) == status
        assert desk.out.startswith(verdict)

    def test_what_widens_and_what_narrows_is_marked(self, desk: Desk) -> None:
        new = changed(SOUND, measurements=CODES[:2], max_collateral_age_s=60, warn_collateral_age_s=30)
        desk.run("diff", desk.write("old.toml", SOUND), desk.write("new.toml", new))
        assert f"  + accepts measurement {CODES[1]}" in desk.out
        assert "  - no longer accepts collateral 2592000 s old: now at most 60 s is allowed" in desk.out
        assert "    warn_collateral_age_s is 30, was None" in desk.out

    def test_every_alternative_says_what_became_of_it(self, desk: Desk) -> None:
        old = desk.write("old.toml", SOUND, SIMULATED, changed(SOUND, measurements=CODES[2:]))
        new = desk.write("new.toml", SNP, SOUND, changed(SOUND, max_collateral_age_s=60))
        assert desk.run("diff", old, new) == 1
        assert "alternative 1, added\n  + accepts tee sev-snp, where sgx or simulated is asked" in desk.out
        assert "alternative 2 (was 1): accepts the same" in desk.out
        assert "old alternative 2, removed\n  - no longer accepts tee simulated" in desk.out
        assert "as a whole wider: 1 in all" in desk.out

    def test_what_is_added_or_removed_without_effect_says_so(self, desk: Desk) -> None:
        one = desk.write("one.toml", SOUND)
        two = desk.write("two.toml", SOUND, changed(SOUND, max_collateral_age_s=60))
        assert desk.run("diff", one, two) == 0
        assert "alternative 2, added: within what was accepted" in desk.out
        assert desk.run("diff", two, one) == 0
        assert "old alternative 2, removed: still accepted by others" in desk.out

    def test_json_says_the_same(self, desk: Desk) -> None:
        new = changed(SOUND, measurements=CODES[:2])
        assert desk.run("diff", "--json", desk.write("old.toml", SOUND), desk.write("new.toml", new)) == 1
        told = json.loads(desk.out)
        assert told["verdict"] == "wider"
        assert told["widens"] == [f"accepts measurement {CODES[1]}"]
        assert told["changes"][0]["old"] == 1

    def test_a_new_policy_that_is_simulated_is_loud(self, desk: Desk) -> None:
        desk.run("diff", desk.write("old.toml", SOUND), desk.write("new.toml", SIMULATED))
        assert "SIMULATED" in desk.err


class TestSchema:
    def test_it_is_the_published_one(self, desk: Desk) -> None:
        assert desk.run("schema") == 0
        assert desk.out.encode() == encode_policy_schema()


class TestSigning:
    """Whoever signs sees what the policy accepts, and what is wrong with it."""

    def test_errors_are_shown_and_warnings_are_not(self) -> None:
        policy = AppraisalPolicy(accept=(changed(SNP, min_tcb=SnpTcb(), allow_smt=True),))
        body = encode_policy(policy)
        lines = [*describe_body("policies/p", body), *_remarks(body)]
        assert lines[0] == "1. A guest of AMD SEV-SNP:"
        assert any("P16" in line and "accepts any firmware" in line for line in lines)
        assert not any("P18" in line for line in lines)

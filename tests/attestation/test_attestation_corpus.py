"""The corpus of lies: each breaks one rule and is rejected for it; its honest twin is accepted."""

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from functools import cache
from pathlib import Path

import pytest

from s3ml.attestation import (
    Technology,
    parse_policy,
)
from s3ml.attestation.verify.steps import STEPS
from s3ml.attestation.verify.verifier import EXAMINERS
from tests.attestation.corpus import intel_edits
from tests.attestation.corpus.__main__ import write_corpus
from tests.attestation.corpus.entries import ENTRIES, honest_worlds
from tests.attestation.corpus.lie import (
    ACCEPTED,
    MALFORMED,
    REJECTED,
    Case,
    Entry,
    Outcome,
    Told,
    case_of,
    fields,
    judge,
    step_of,
)

LEAST_LIES = 120
REJECTIONS = [entry for entry in ENTRIES if entry.lie.result == REJECTED]
# Claims about code and its signer: mere claims wherever the signatures do not hold.
CODE = next(claims for title, claims in STEPS if title.startswith("The code"))


@cache
def worlds() -> Mapping[Technology, Told]:
    return honest_worlds()


@cache
def told(entry: Entry) -> tuple[Case, Case]:
    """Return the honest twin and the lie."""
    world = worlds()[entry.technology]
    return entry.honest(world), entry.told(world)


@cache
def judged(entry: Entry) -> Outcome:
    """Return what becomes of the lie."""
    return judge(told(entry)[1])


class TestEveryLie:
    """It is rejected with exactly its claims, and nothing but the evidence is another."""

    @pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
    def test_it_is_told_and_its_twin_is_believed(self, entry: Entry) -> None:
        honest, lie = told(entry)
        assert replace(lie, evidence=honest.evidence) == honest
        assert lie.evidence != honest.evidence
        believed = judge(honest)
        assert (believed.result, believed.claims) == (ACCEPTED, ())
        outcome = judged(entry)
        assert outcome.result == entry.lie.result
        assert set(outcome.claims) == set(entry.lie.claims)

    def test_the_steps_say_the_same(self) -> None:
        """A step is broken where one of its claims is, unproven behind it, or holds."""
        for entry in REJECTIONS:
            outcome = judged(entry)
            broken = {step.number for step in outcome.steps if not step.holds}
            unproven = {step.number for step in outcome.steps if step.detail.startswith("unproven: ")}
            assert broken - unproven == {step_of(claim) for claim in entry.lie.claims}, entry.name
            assert bool(unproven) == ("measurement" in entry.lie.claims[1:]), entry.name

    def test_what_is_unproven_is_called_a_claim(self) -> None:
        """Code is named as a claim where something else is broken under it, and only there."""
        for entry in REJECTIONS:
            claimed = {m.claim for m in judged(entry).mismatches if " claimed by a quote " in m.got}
            assert claimed == set(entry.lie.claims[1:]) & CODE, entry.name


class TestCorpus:
    """It is large, its names are stable, and no rule is left out."""

    def test_it_is_large(self) -> None:
        assert set(EXAMINERS) == {entry.technology for entry in ENTRIES}
        for technology in Technology:
            assert sum(entry.technology is technology for entry in ENTRIES) >= LEAST_LIES

    def test_names(self) -> None:
        names = [entry.name for entry in ENTRIES]
        assert len(set(names)) == len(names)
        assert all(re.fullmatch(r"[a-z-]+/[a-z0-9]+(-[a-z0-9]+)*", name) for name in names)

    def test_every_claim_is_broken_by_a_lie_about_it(self) -> None:
        broken = {entry.lie.claims[0] for entry in REJECTIONS}
        assert broken == {claim for _, claims in STEPS for claim in claims}

    def test_no_lie_is_about_two_rules(self) -> None:
        """What else is named follows: from a chain its signatures, from those what is claimed."""
        follows = {"certificate_chain", "revocation", "quote_signature", "measurement", "qe_identity", "crl"}
        follows.add("certificate_role")  # of a root in the place of an authority
        assert {claim for entry in REJECTIONS for claim in entry.lie.claims[1:]} <= follows

    def test_every_claim_says_what_was_expected_and_got(self) -> None:
        for entry in REJECTIONS:
            for mismatch in judged(entry).mismatches:
                assert mismatch.expected
                assert mismatch.got
                assert "\n" not in f"{mismatch.expected}{mismatch.got}"

    def test_malformed_evidence_says_what_was_expected(self) -> None:
        for entry in ENTRIES:
            if entry.lie.result == MALFORMED:
                reason = judged(entry).reason
                assert re.search(r"\A[^\n]+: (.*: )?expected [^\n]+\Z", reason), (entry.name, reason)


class TestManyLies:
    """What is wrong in several ways is said at once."""

    def test_no_collateral_and_another_request(self) -> None:
        world = intel_edits.quoted(report_data=bytes(64))(worlds()[Technology.SGX])
        case = case_of(world, rewrite=fields(lambda document: document.update(collateral=None)))
        assert judge(case).claims == ("collateral", "report_data", "measurement")

    def test_a_revocation_list_without_its_ca_and_a_forged_quote(self) -> None:
        told = {entry.name: entry.lie.tell for entry in ENTRIES}
        without_ca = told["sgx/pck-crl-chain-without-ca"](worlds()[Technology.SGX])
        forged = told["sgx/signature-of-another-quote"](without_ca)
        assert judge(case_of(forged)).claims == ("certificate_chain", "quote_signature", "measurement")

    def test_where_nothing_is_proven_the_signer_is_a_claim_too(self) -> None:
        forged = next(entry for entry in ENTRIES if entry.name == "sgx/attestation-key-forged")
        by_signer = next(entry for entry in ENTRIES if entry.name == "sgx/other-signer").lie.given
        entry = replace(forged, lie=replace(forged.lie, given=by_signer))
        assert judge(entry.told(worlds()[Technology.SGX])).claims == (
            "quote_signature",
            "signer",
            "product_id",
        )


class TestFiles:
    """Other verifiers are held against the same lies."""

    @pytest.fixture(scope="class")
    @staticmethod
    def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
        path = tmp_path_factory.mktemp("corpus")
        write_corpus(path)
        return path

    def test_the_index_lists_every_lie(self, folder: Path) -> None:
        index = json.loads((folder / "index.json").read_text())
        assert [lie["name"] for lie in index["lies"]] == [entry.name for entry in ENTRIES]
        assert all(
            set(lie["claims"]) <= {c for s in index["steps"].values() for c in s} for lie in index["lies"]
        )
        folders = {str(path.parent.relative_to(folder)) for path in folder.glob("*/*/expected.json")}
        assert folders == {entry.name for entry in ENTRIES}

    def test_what_was_written_is_judged_alike(self, folder: Path) -> None:
        """By the files alone."""
        for path in folder.glob("*/*/expected.json"):
            expected = json.loads(path.read_text())
            policy = parse_policy((path.parent / "policy.toml").read_bytes())
            assert expected["honest"] == ACCEPTED
            for name, result in (("honest.json", ACCEPTED), ("evidence.json", expected["result"])):
                case = Case(
                    evidence=(path.parent / name).read_bytes(),
                    policy=policy,
                    report_data=bytes.fromhex(expected["report_data"]),
                    now=datetime.fromisoformat(expected["now"]),
                )
                outcome = judge(case)
                assert outcome.result == result, path
                assert sorted(outcome.claims) == (expected["claims"] if result == REJECTED else []), path

    def test_it_is_never_mixed_with_another(self, folder: Path) -> None:
        with pytest.raises(FileExistsError):
            write_corpus(folder)

    def test_malformed_evidence_has_no_claims(self, folder: Path) -> None:
        for lie in json.loads((folder / "index.json").read_text())["lies"]:
            assert (lie["result"] == MALFORMED) == (lie["claims"] == []) == (lie["breaks"] is None)

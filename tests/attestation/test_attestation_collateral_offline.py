"""Collateral without a network: from a folder, and inspected item by item."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import msgspec
import pytest

from s3ml.attestation import Collateral, Evidence, Technology, Tee
from s3ml.attestation.collateral import (
    CollateralFiles,
    CollateralRejectedError,
    CollateralUnavailableError,
    IntelService,
)
from s3ml.attestation.collateral.embedded import read_embedded
from s3ml.attestation.collateral.inspection import ItemFacts, inspect
from s3ml.attestation.collateral.item import Item
from s3ml.attestation.policy.alternative import EndorsementKey
from s3ml.attestation.simulated.collateral import render_crl
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.attestation_world import ISSUED, NOW, World
from tests.attestation.collateral_world import FMSPC, FRESHNESS, SetClock, intel_client
from tests.attestation.fakes.provisioning import pcs_answers, serving
from tests.attestation.tdx_world import TdxWorld
from tests.attestation.test_attestation_collateral_amd import reported, vendor


@pytest.fixture
def honest(pki: SimulatedPKI) -> Collateral:
    return pki.collateral(ISSUED)


@pytest.fixture
def folder(pki: SimulatedPKI, world: World, honest: Collateral, tmp_path: Path) -> Path:
    with (
        serving(pcs_answers(honest, fmspc=FMSPC)) as server,
        intel_client(pki, server, folder=tmp_path) as made,
    ):
        made.client.for_quote(world.quote)
    return tmp_path


def files(pki: SimulatedPKI, folder: Path, *, late: timedelta = timedelta(0)) -> CollateralFiles:
    return CollateralFiles(
        folder,
        intel=IntelService(endpoints=(), root=pki.root_der),
        freshness=FRESHNESS,
        clock=SetClock(instant=NOW + late),
    )


def by_kind(found: tuple[ItemFacts, ...]) -> dict[str, ItemFacts]:
    return {facts.what: facts for facts in found}


class TestFiles:
    """A folder gives what its vendor signed and what still holds, or nothing."""

    def test_it_gives_what_was_fetched(
        self, pki: SimulatedPKI, world: World, honest: Collateral, folder: Path
    ) -> None:
        assert files(pki, folder).for_quote(world.quote) == honest

    @pytest.mark.parametrize("late", [timedelta(days=11), timedelta(days=31)])
    def test_it_gives_nothing_that_expired(
        self, pki: SimulatedPKI, world: World, folder: Path, late: timedelta
    ) -> None:
        with pytest.raises(CollateralUnavailableError, match="fetch it anew"):
            files(pki, folder, late=late).for_quote(world.quote)

    def test_what_is_missing_is_named(self, pki: SimulatedPKI, world: World, folder: Path) -> None:
        next(folder.glob("*tcb-info*")).unlink()
        with pytest.raises(
            CollateralUnavailableError, match=r"SGX TCB info of FMSPC 53334D4C0000: .* has none"
        ):
            files(pki, folder).for_quote(world.quote)

    @pytest.mark.parametrize(
        "change",
        [lambda data: data.replace(b"UpToDate", b"UpToDatf"), lambda _: b"{}", lambda _: bytes(70_000)],
    )
    def test_what_was_changed_is_refused(
        self, pki: SimulatedPKI, world: World, folder: Path, change: Callable[[bytes], bytes]
    ) -> None:
        file = next(folder.glob("*tcb-info*"))
        file.write_bytes(change(file.read_bytes()))
        with pytest.raises(CollateralUnavailableError, match="TCB info"):
            files(pki, folder).for_quote(world.quote)

    def test_there_is_a_folder(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected a folder"):
            CollateralFiles(tmp_path / "none")


class TestInspection:
    """Every item is proved before people are told what it says."""

    def test_items_of_evidence_with_sgx(self, pki: SimulatedPKI, world: World) -> None:
        items = read_embedded(world.evidence, root=pki.root_der, now=NOW)
        found = by_kind(inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW))
        assert all(facts.problem is None for facts in found.values())
        tcb_info = found[f"SGX TCB info of FMSPC {FMSPC}"]
        assert tcb_info.issuer.endswith("SGX TCB Signing")
        assert (tcb_info.evaluation_data_number, tcb_info.age_s) == (1, 3600)
        assert found["root CRL"].issuer.endswith("SGX Root CA")
        assert found["PCK CRL of the platform CA"].issuer.endswith("SGX PCK Platform CA")

    def test_items_of_evidence_with_tdx(self, pki: SimulatedPKI) -> None:
        items = read_embedded(TdxWorld.honest(pki).evidence, root=pki.root_der, now=NOW)
        found = by_kind(inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW))
        assert found["TDX QE identity"].problem is None

    @pytest.mark.parametrize(("kind", "line"), [("VCEK", "Milan"), ("VCEK", "Turin"), ("VLEK", "Genoa")])
    def test_items_of_evidence_with_snp(self, kind: EndorsementKey, line: str) -> None:
        pki = vendor(kind, line)
        evidence = Evidence(
            tee=Tee.SIMULATED,
            simulates=Technology.SEV_SNP,
            quote=reported(pki),
            certificates=pki.certificates(ISSUED),
        )
        items = read_embedded(evidence, root=pki.root_der, now=NOW)
        found = by_kind(inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW))
        assert [facts.problem for facts in found.values()] == [None] * 3
        assert f"ARK-{line}" in found[f"CRL of {line} {kind}s"].issuer
        assert f"-{line}" in found[f"{kind} of a {line} processor"].issuer

    def test_certificates_without_a_list(self) -> None:
        pki = vendor()
        certificates = msgspec.structs.replace(pki.certificates(ISSUED), crl=None)
        evidence = Evidence(tee=Tee.SEV_SNP, quote=reported(pki), certificates=certificates)
        assert len(read_embedded(evidence, root=pki.root_der, now=NOW)) == 2

    def test_evidence_without_any_says_so(self, world: World) -> None:
        bare = msgspec.structs.replace(world.evidence, collateral=None)
        with pytest.raises(ConfigurationError, match="got none"):
            read_embedded(bare, root=None, now=NOW)

    def test_another_root_is_a_problem(self, pki: SimulatedPKI, world: World) -> None:
        items = read_embedded(world.evidence, root=pki.root_der, now=NOW)
        found = inspect(items, root=None, freshness=FRESHNESS, now=NOW)
        assert all("another name or root" in str(facts.problem) for facts in found)
        claimed = read_embedded(world.evidence, root=None, now=NOW)
        assert all(facts.problem for facts in inspect(claimed, root=None, freshness=FRESHNESS, now=NOW))

    def test_age_is_a_problem(self, pki: SimulatedPKI, world: World) -> None:
        items = read_embedded(world.evidence, root=pki.root_der, now=NOW)
        found = by_kind(inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW + timedelta(days=20)))
        assert "at most 864000 s" in str(found["PCK CRL of the platform CA"].problem)
        assert found["root CRL"].problem is None

    def test_revoked_certificates_are_counted(self, pki: SimulatedPKI, world: World) -> None:
        crl = render_crl(pki.root, ISSUED, timedelta(days=30), revoked=[pki.pck.certificate])
        items = read_embedded(world.with_collateral(root_ca_crl=crl).evidence, root=pki.root_der, now=NOW)
        found = by_kind(inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW))
        assert found["root CRL"].revoked == 1

    def test_a_leaf_without_its_authorities_is_a_problem(self) -> None:
        pki = vendor()
        evidence = Evidence(tee=Tee.SEV_SNP, quote=reported(pki), certificates=pki.certificates(ISSUED))
        items = read_embedded(evidence, root=pki.root_der, now=NOW)[1:]
        found = inspect(items, root=pki.root_der, freshness=FRESHNESS, now=NOW)
        assert all("authorities beside it" in str(facts.problem) for facts in found)

    @pytest.mark.parametrize("name", ["intel-root-crl", "amd-vcek-milan-crl", "something-else", "intel-tcb"])
    def test_what_cannot_be_read_is_a_problem_and_no_error(self, name: str) -> None:
        (facts,) = inspect(
            [Item(name=name, source="here", confirmed_at=NOW, der=b"none")],
            root=None,
            freshness=FRESHNESS,
            now=NOW,
        )
        assert facts.problem is not None
        assert facts.issuer == "unknown"

    def test_authorities_that_cannot_be_read_are_rejected(self) -> None:
        pki = vendor()
        lone = msgspec.structs.replace(
            pki.certificates(ISSUED), chain=pki.chain.partition("\n-----BEGIN")[0] + "\n"
        )
        evidence = Evidence(tee=Tee.SEV_SNP, quote=reported(pki), certificates=lone)
        with pytest.raises(CollateralRejectedError):
            read_embedded(evidence, root=pki.root_der, now=NOW)

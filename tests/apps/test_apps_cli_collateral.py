"""`s3ml collateral`: fetched, verified, written; shown with every date; one line for bad input."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from s3ml.apps.cli.collateral import command
from s3ml.attestation import encode_evidence, parse_evidence
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.collateral_world import FMSPC, SetClock
from tests.attestation.fakes.provisioning import (
    ROOT_CRL_PATH,
    ProvisioningServer,
    kds_answers,
    pccs_answers,
    pcs_answers,
    serving,
)
from tests.attestation.tdx_world import TdxWorld
from tests.attestation.test_attestation_collateral_amd import leaf_of, reported, vendor


@pytest.fixture(scope="module")
def honest() -> World:
    return World.honest(SimulatedPKI.create(CREATED))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("s3ml.attestation.collateral.client.SystemClock", SetClock)


@pytest.fixture
def server(honest: World) -> Iterator[ProvisioningServer]:
    assert honest.collateral is not None
    with serving(pcs_answers(honest.collateral, fmspc=FMSPC)) as running:
        yield running


@pytest.fixture
def root(honest: World, tmp_path: Path) -> tuple[str, ...]:
    file = tmp_path / "root.pem"
    file.write_bytes(honest.pki.root_pem)
    return "--allow-simulated", "--simulation-root", str(file)


def run(*arguments: object) -> int:
    status = command.main([str(one) for one in arguments], standalone_mode=False)
    return status if isinstance(status, int) else 0


def at_pcs(server: ProvisioningServer) -> tuple[str, ...]:
    return "--pcs", server.url, "--root-crl", server.url + ROOT_CRL_PATH


class TestFetch:
    def test_a_quote_becomes_evidence_that_verifies(
        self, honest: World, server: ProvisioningServer, root: tuple[str, ...], tmp_path: Path
    ) -> None:
        (tmp_path / "quote").write_bytes(honest.quote)
        written = tmp_path / "evidence.json"
        assert run("fetch", tmp_path / "quote", "-o", written, *at_pcs(server), *root) == 0
        assert parse_evidence(written.read_bytes()) == honest.evidence

    def test_a_folder_is_renewed_with_every_call(
        self, honest: World, server: ProvisioningServer, root: tuple[str, ...], tmp_path: Path
    ) -> None:
        (tmp_path / "evidence.json").write_bytes(encode_evidence(honest.evidence))
        for _ in range(2):
            run("fetch", tmp_path / "evidence.json", "-o", tmp_path / "folder", *at_pcs(server), *root)
        assert len(server.requests) == 8
        assert len(list((tmp_path / "folder").iterdir())) == 4

    def test_a_pccs_alone_is_asked_where_it_is_given(
        self, honest: World, root: tuple[str, ...], tmp_path: Path
    ) -> None:
        assert honest.collateral is not None
        (tmp_path / "quote").write_bytes(honest.quote)
        with serving(pccs_answers(honest.collateral, fmspc=FMSPC)) as server:
            run("fetch", tmp_path / "quote", "-o", tmp_path / "e.json", "--pccs", server.url, *root)
        assert parse_evidence((tmp_path / "e.json").read_bytes()).collateral == honest.collateral

    def test_a_tdx_quote_loses_the_zeros_behind_it(
        self, honest: World, root: tuple[str, ...], tmp_path: Path
    ) -> None:
        world = TdxWorld.honest(honest.pki)
        assert world.collateral is not None
        (tmp_path / "quote").write_bytes(world.quote + bytes(70))
        with serving(pcs_answers(world.collateral, fmspc=FMSPC, technology="tdx")) as server:
            run("fetch", tmp_path / "quote", "-o", tmp_path / "e.json", *at_pcs(server), *root)
        assert parse_evidence((tmp_path / "e.json").read_bytes()).quote == world.quote

    def test_a_report_gets_its_certificates(self, tmp_path: Path) -> None:
        pki = vendor()
        (tmp_path / "report").write_bytes(reported(pki))
        (tmp_path / "root.pem").write_bytes(pki.root_pem)
        root = ("--allow-simulated", "--simulation-root", tmp_path / "root.pem")
        with serving(kds_answers(pki, ISSUED, product="Milan", leaf=leaf_of(pki))) as server:
            run("fetch", tmp_path / "report", "-o", tmp_path / "e.json", "--kds", server.url, *root)
        evidence = parse_evidence((tmp_path / "e.json").read_bytes())
        assert evidence.certificates is not None
        assert evidence.certificates.chain == pki.chain

    def test_without_a_simulation_root_only_intels_counts(
        self, honest: World, server: ProvisioningServer, tmp_path: Path
    ) -> None:
        (tmp_path / "quote").write_bytes(honest.quote)
        with pytest.raises(UnavailableError, match="delivered what does not hold"):
            run("fetch", tmp_path / "quote", "-o", tmp_path / "e.json", *at_pcs(server))
        assert not (tmp_path / "e.json").exists()

    @pytest.mark.parametrize("content", [b"no quote", b"{}", b"\x03\x00", bytes(1184)])
    def test_bad_input_is_one_line(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "quote").write_bytes(content)
        with pytest.raises(ConfigurationError) as refused:
            run("fetch", tmp_path / "quote", "-o", tmp_path / "e.json")
        assert "\n" not in str(refused.value)

    def test_the_two_options_of_a_simulation_go_together(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="or neither"):
            run("fetch", tmp_path / "quote", "-o", tmp_path / "e.json", "--allow-simulated")

    def test_an_authority_for_tls_is_pem(
        self, honest: World, root: tuple[str, ...], tmp_path: Path, server: ProvisioningServer
    ) -> None:
        (tmp_path / "quote").write_bytes(honest.quote)
        options = (*at_pcs(server), *root, "-o", tmp_path / "e.json", "--tls-ca")
        assert run("fetch", tmp_path / "quote", *options, tmp_path / "root.pem") == 0
        with pytest.raises(ConfigurationError, match="--tls-ca"):
            run("fetch", tmp_path / "quote", *options, tmp_path / "quote")


class TestShow:
    def test_evidence_is_shown(
        self, honest: World, root: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "e.json").write_bytes(encode_evidence(honest.evidence))
        assert run("show", tmp_path / "e.json", "--at", NOW.isoformat(), *root) == 0
        told = capsys.readouterr()
        assert f"SGX TCB info of FMSPC {FMSPC}" in told.out
        assert "USABLE as of" in told.out
        assert "TCB evaluation data number 1" in " ".join(told.out.split())
        assert "0 revoked" in " ".join(told.out.split())
        assert "SIMULATED" in told.err

    def test_a_folder_is_shown_as_json(
        self,
        honest: World,
        server: ProvisioningServer,
        root: tuple[str, ...],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        (tmp_path / "quote").write_bytes(honest.quote)
        run("fetch", tmp_path / "quote", "-o", tmp_path / "folder", *at_pcs(server), *root)
        capsys.readouterr()
        assert run("show", tmp_path / "folder", "--at", NOW.isoformat(), "--json", *root) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["is_sound"] is True
        assert {item["evaluation_data_number"] for item in told["items"]} == {0, 1}

    def test_what_expired_is_said_and_ends_otherwise(
        self, honest: World, root: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "e.json").write_bytes(encode_evidence(honest.evidence))
        late = (NOW + timedelta(days=40)).isoformat()
        assert run("show", tmp_path / "e.json", "--at", late, *root) == 3
        assert "NOT USABLE" in capsys.readouterr().out

    def test_without_its_root_nothing_holds(
        self, honest: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "e.json").write_bytes(encode_evidence(honest.evidence))
        assert run("show", tmp_path / "e.json") == 3
        assert "✗" in capsys.readouterr().out

    @pytest.mark.parametrize("at", ["soon", "2026-03-01T12:00:00"])
    def test_an_instant_has_a_zone(self, at: str, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="--at"):
            run("show", tmp_path, "--at", at)

    def test_an_empty_folder_is_bad_input(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected items"):
            run("show", tmp_path)

    def test_a_broken_item_is_bad_input(self, tmp_path: Path) -> None:
        (tmp_path / "intel-root-crl.json").write_bytes(b"{")
        with pytest.raises(ConfigurationError, match=r"intel-root-crl\.json: expected an item"):
            run("show", tmp_path)

    def test_a_file_that_is_no_evidence_is_bad_input(self, tmp_path: Path) -> None:
        (tmp_path / "e.json").write_bytes(b"{}")
        with pytest.raises(ConfigurationError, match=r"e\.json: "):
            run("show", tmp_path / "e.json")

"""Which TEE a process runs in is found, and never the host's to say."""

import dataclasses
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from s3ml.apps.processes.attester import PLACES, Places, find_attester, find_collateral
from s3ml.attestation import Tee
from s3ml.attestation.collateral.client import CollateralClient
from s3ml.attestation.generate import GramineAttester, SnpAttester, TdxAttester
from s3ml.attestation.simulated.attester import SimulatedAttester
from s3ml.keyservice import settings as keyservice_settings
from s3ml.modelserver import settings as modelserver_settings
from s3ml.primitives.errors import ConfigurationError
from tests.attestation.fakes.gramine import FakeGramine
from tests.attestation.fakes.tsm import FakeTsm

NOWHERE = Path("/nowhere")
EMPTY = Places(gramine=NOWHERE, reports=NOWHERE, event_log=NOWHERE)


@dataclass(frozen=True, kw_only=True)
class Stated:
    """What the host says."""

    simulated_platform: str | None = None
    pccs_urls: tuple[str, ...] = ()
    pcs_urls: tuple[str, ...] = ()
    kds_urls: tuple[str, ...] = ()


def no_report(*_request: object) -> bytes:
    raise AssertionError


def places(*, gramine: bytes | None = None, provider: str | None = None) -> Places:
    return Places(
        gramine=NOWHERE if gramine is None else FakeGramine(no_report, attestation_type=gramine).root,
        reports=NOWHERE if provider is None else FakeTsm(provider, no_report).root,
        event_log=NOWHERE,
    )


class TestFinding:
    """Each kind shows itself in its own place."""

    def test_gramine(self) -> None:
        attester = find_attester(Stated(), places(gramine=b"dcap"))
        assert isinstance(attester, GramineAttester)
        assert attester.sealing_key().reveal() != bytes(range(16)).ljust(32, b"\0")

    def test_gramine_before_a_file_system_that_looks_like_a_guests(self) -> None:
        attester = find_attester(Stated(), places(gramine=b"dcap", provider="tdx_guest"))
        assert attester.tee is Tee.SGX

    @pytest.mark.parametrize(("provider", "kind"), [("tdx_guest", TdxAttester), ("sev_guest", SnpAttester)])
    def test_a_guest(self, provider: str, kind: type) -> None:
        assert isinstance(find_attester(Stated(), places(provider=provider)), kind)

    def test_a_simulated_platform(self) -> None:
        attester = find_attester(Stated(simulated_platform="/quote.sock"), EMPTY)
        assert isinstance(attester, SimulatedAttester)

    def test_the_simulation_on_a_machine_that_is_a_guest_itself(self) -> None:
        attester = find_attester(Stated(simulated_platform="/quote.sock"), places(provider="tdx_guest"))
        assert attester.tee is Tee.SIMULATED

    def test_none(self) -> None:
        with pytest.raises(ConfigurationError, match="no TEE found: expected an SGX enclave"):
            find_attester(Stated(), EMPTY)


class TestRefusing:
    """What cannot attest, or would be attested for by the host, does not start."""

    def test_a_simulated_platform_in_an_enclave(self) -> None:
        with pytest.raises(ConfigurationError, match="expected no S3ML_SIMULATED_PLATFORM under Gramine"):
            find_attester(Stated(simulated_platform="/quote.sock"), places(gramine=b"dcap"))

    def test_an_enclave_without_attestation(self) -> None:
        """It is an error, not a reason to look elsewhere."""
        with pytest.raises(ConfigurationError, match="attestation_type: expected b'dcap', got b'none'"):
            find_attester(Stated(), places(gramine=b"none", provider="tdx_guest"))

    def test_an_unknown_guest(self) -> None:
        with pytest.raises(ConfigurationError, match="provider: expected tdx_guest or sev_guest"):
            find_attester(Stated(), places(provider="arm_cca_guest"))

    @pytest.mark.parametrize("provider", [None, "tdx_guest"])
    def test_a_simulated_platform_in_an_image_without_one(
        self, provider: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "s3ml.attestation.simulated.attester", None)
        with pytest.raises(ConfigurationError, match="leaves the simulated platform out"):
            find_attester(Stated(simulated_platform="/quote.sock"), places(provider=provider))


class TestHost:
    """Nothing that the host sets says where a TEE is: it could put a sealing key of its own there."""

    @pytest.mark.parametrize("module", [keyservice_settings, modelserver_settings])
    def test_no_setting_names_a_place(self, module: object) -> None:
        known: Sequence[str] = getattr(module, "KNOWN")  # noqa: B009 (the modules share no type)
        about = [name for name in known if any(word in name for word in ("TEE", "ATTEST", "TSM", "GRAMINE"))]
        assert about == []
        fields = {field.name for field in dataclasses.fields(Places)}
        assert fields == {"gramine", "reports", "event_log"}

    def test_the_places_are_constants_of_the_code(self) -> None:
        assert dataclasses.asdict(PLACES) == {
            "gramine": Path("/dev/attestation"),
            "reports": Path("/sys/kernel/config/tsm/report"),
            "event_log": Path("/sys/firmware/acpi/tables/data/CCEL"),
        }
        assert find_attester.__defaults__ == (PLACES,)


class TestCollateral:
    """Addresses are the host's to choose: what comes from there is signed."""

    def test_any_address_makes_a_client(self) -> None:
        stated = Stated(pccs_urls=("http://a:8081",), pcs_urls=("https://b",), kds_urls=("https://c",))
        for settings in (Stated(), stated):
            client = find_collateral(settings)
            assert isinstance(client, CollateralClient)
            client.close()

    @pytest.mark.parametrize(
        "stated",
        [
            Stated(pccs_urls=("https://user@host",)),
            Stated(pcs_urls=("https://user@host",)),
            Stated(kds_urls=("https://user@host",)),
        ],
    )
    def test_an_address_that_cannot_be_asked(self, stated: Stated) -> None:
        with pytest.raises(ConfigurationError, match="expected an address"):
            find_collateral(stated)

    def test_the_simulation_does_not_load_it(self) -> None:
        program = (
            "import sys\n"
            "from pathlib import Path\n"
            "from s3ml.apps.processes.attester import Places, find_attester\n"
            "from s3ml.keyservice.settings import Settings\n"
            "nowhere = Path('/nowhere')\n"
            "find_attester(Settings(host='::1', port=0, database=nowhere, simulated_platform='/s'),\n"
            "              Places(gramine=nowhere, reports=nowhere, event_log=nowhere))\n"
            "assert not any(name.startswith('s3ml.attestation.collateral') for name in sys.modules)\n"
        )
        subprocess.run([sys.executable, "-c", program], check=True, timeout=300)

"""One simulated vendor for all tests of a process; its honest worlds."""

import pytest

from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import CREATED, World
from tests.attestation.tdx_world import TdxWorld

_PKI = SimulatedPKI.create(CREATED)


@pytest.fixture(scope="session")
def pki() -> SimulatedPKI:
    return _PKI


@pytest.fixture(scope="session")
def world(pki: SimulatedPKI) -> World:
    return World.honest(pki)


@pytest.fixture(scope="session")
def tdx_world(pki: SimulatedPKI) -> TdxWorld:
    return TdxWorld.honest(pki)

"""Two services with a model of the same name, and a proxy for both."""

import pytest

from tests.client.proxy.forwarding_world import Desk, Services, started


@pytest.fixture
def services() -> Services:
    return Services({"birds": ("classifier", "detector"), "tumours": ("classifier", "segmenter")})


@pytest.fixture
async def desk(services: Services) -> Desk:
    return await started(services)


@pytest.fixture
async def single() -> Desk:
    return await started(Services({"tumours": ("classifier",)}))

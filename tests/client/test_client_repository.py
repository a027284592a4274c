"""Health, and the repository: what a verified replica says of itself, and what it is asked to change."""

from typing import Any

import pytest

from s3ml.client import IndexEntry, ModelState
from s3ml.client.core import Core
from s3ml.client.errors import (
    CredentialsRefusedError,
    DeadlineExceededError,
    InvalidInputError,
    ModelError,
    UntrustedServiceError,
)
from s3ml.primitives.errors import ConfigurationError
from s3ml.wire.sealed import InnerResponse
from tests.client.world import MODEL, SERVICE, Driver, World, inner, status


class TestHealth:
    """A verified replica's own word counts; the gateway's does not."""

    def test_live_and_ready(self, core: Core, driver: Driver) -> None:
        assert driver.run(core.is_live(SERVICE))
        assert driver.run(core.is_ready(SERVICE))
        assert driver.run(core.is_ready(SERVICE, MODEL))
        assert driver.run(core.is_ready(SERVICE, MODEL, version="1"))

    def test_without_models(self, core: Core, driver: Driver, world: World) -> None:
        world.loaded.clear()
        assert driver.run(core.is_live(SERVICE))
        assert not driver.run(core.is_ready(SERVICE))

    @pytest.mark.parametrize("model", [MODEL, "unheard-of"])
    def test_a_model_that_is_not_there(self, core: Core, driver: Driver, world: World, model: str) -> None:
        world.loaded.clear()
        assert not driver.run(core.is_ready(SERVICE, model))
        assert driver.pauses_s == []

    def test_not_now_is_an_answer(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(503, "too little memory", ("retry-after", "5")))
        assert not driver.run(core.is_ready(SERVICE))
        assert driver.pauses_s == []

    def test_a_gateway_that_says_no_is_waited_for(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.extend([status(503)] * 2)
        assert driver.run(core.is_ready(SERVICE))
        assert len(driver.pauses_s) == 2

    def test_a_gateway_that_never_stops_ends_with_the_deadline(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.extend([status(503)] * 500)
        with pytest.raises(DeadlineExceededError):
            driver.run(core.is_ready(SERVICE, timeout_s=1.0))

    @pytest.mark.parametrize("content", [b'{"ready":"yes"}', b"{}", b'{"ready":1}'])
    def test_what_is_no_yes_is_no(self, core: Core, driver: Driver, world: World, content: bytes) -> None:
        world.answers.append(InnerResponse(status=200, content=content))
        assert not driver.run(core.is_ready(SERVICE))

    def test_what_is_no_answer(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=200, content=b"yes"))
        with pytest.raises(UntrustedServiceError):
            driver.run(core.is_ready(SERVICE))

    def test_a_refusal_is_raised(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(401, "no"))
        with pytest.raises(CredentialsRefusedError):
            driver.run(core.is_ready(SERVICE))


class TestIndex:
    """The index is that of the replica that answers."""

    def test_entries(self, core: Core, driver: Driver, world: World) -> None:
        assert driver.run(core.models(SERVICE)) == (
            IndexEntry(name=MODEL, version="1", state=ModelState.READY),
        )
        assert bytes(world.opened[-1].request.content) == b'{"ready":false}'

    def test_only_what_is_ready(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.models(SERVICE, ready=True))
        assert bytes(world.opened[-1].request.content) == b'{"ready":true}'

    @pytest.mark.parametrize("content", [b"{}", b'[{"name":"m"}]', b"[]]"])
    def test_what_is_no_index(self, core: Core, driver: Driver, world: World, content: bytes) -> None:
        world.answers.append(InnerResponse(status=200, content=content))
        with pytest.raises(UntrustedServiceError, match="its answer is malformed: index"):
            driver.run(core.models(SERVICE))


class TestChanges:
    """Loading and unloading may be said twice."""

    def test_unload_and_load(self, core: Core, driver: Driver, world: World) -> None:
        for _ in range(2):
            driver.run(core.change(SERVICE, MODEL, "unload"))
        assert driver.run(core.models(SERVICE))[0].state == ModelState.UNAVAILABLE
        for _ in range(2):
            driver.run(core.change(SERVICE, MODEL, "load"))
        assert world.loaded == {MODEL}

    @pytest.mark.parametrize("action", ["load", "unload"])
    def test_it_is_tried_again(self, core: Core, driver: Driver, world: World, action: Any) -> None:
        world.sealed.append(status(503))
        driver.run(core.change(SERVICE, MODEL, action))
        assert core.statistics.retries == 1

    def test_no_room_is_no_matter_of_time(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(503, "memory: 80 MiB of 64 MiB"))
        with pytest.raises(ModelError, match="service 'tumours': memory: 80 MiB of 64 MiB") as full:
            driver.run(core.change(SERVICE, MODEL, "load"))
        assert full.value.status == 503
        assert driver.pauses_s == []

    def test_a_server_that_says_when_is_waited_for(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(503, "later", ("retry-after", "2")))
        driver.run(core.change(SERVICE, MODEL, "load"))
        assert 2.0 <= driver.pauses_s[0] < 3.0

    def test_without_the_role(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(403, "this caller lacks the role models"))
        with pytest.raises(CredentialsRefusedError, match="lacks the role models"):
            driver.run(core.change(SERVICE, MODEL, "load"))

    def test_a_model_that_the_owners_did_not_release(self, core: Core, driver: Driver) -> None:
        with pytest.raises(InvalidInputError, match="model other: not released") as refused:
            driver.run(core.change(SERVICE, "other", "load"))
        assert refused.value.status == 404

    def test_a_malformed_name(self, core: Core, driver: Driver, world: World) -> None:
        with pytest.raises(ConfigurationError, match="model"):
            driver.run(core.change(SERVICE, "../x", "load"))
        assert world.seen == []

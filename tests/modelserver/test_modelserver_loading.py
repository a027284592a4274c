"""Models come and go while others are used: by request, by release, within a budget of memory."""

import asyncio
import gc
import json
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from s3ml.bundle import Batching, Declaration, ModelFiles, Resources
from s3ml.keyservice.documents import KeyCaller
from s3ml.modelserver.memory import MemoryBudget, MemoryBudgetError, estimate_bytes, opening_bytes
from s3ml.modelserver.repository import Repository
from s3ml.modelserver.runtimes import ModelUnusableError
from s3ml.modelserver.runtimes.onnx import open_model
from s3ml.modelserver.store import BundleStore
from s3ml.primitives.units import MIB
from s3ml.wire.oip import IndexEntry, ModelState, decode_index
from s3ml.wire.sealed import InnerRequest, InnerResponse, RequestSigner, seal_request
from tests.modelserver.callers_world import ADA
from tests.modelserver.conftest import DEPLOYMENT, Replica, World, build, linear, value

ROWS = {"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}
OPERATOR = KeyCaller(name="ada", key=str(ADA.public), roles=("infer", "models"))
Serve = Callable[[], Awaitable["Operated"]]


class Operated:
    """A replica, as a caller with both roles sees it."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica

    async def ask(self, method: str, path: str, content: bytes = b"") -> InnerResponse:
        request = InnerRequest(method=method, path=path, content=content)
        signer = RequestSigner(key=ADA, deployment=DEPLOYMENT, service="tumours")
        assert self.replica.config is not None
        sealed = seal_request(self.replica.config, request, date=self.replica.clock.now(), signer=signer)
        return sealed.open_response((await self.replica.post(sealed.body)).body)

    async def post(self, path: str, content: bytes = b"") -> tuple[int, str]:
        answer = await self.ask("POST", path, content)
        return answer.status, bytes(answer.content).decode()

    async def infer(self, model: str = "tumours") -> int:
        answer = await self.ask("POST", f"/v2/models/{model}/infer", json.dumps(ROWS).encode())
        return answer.status

    async def index(self, content: bytes = b"") -> list[tuple[str, str, str, str]]:
        answer = await self.ask("POST", "/v2/repository/index", content)
        return [(e.name, e.version, str(e.state), e.reason) for e in decode_index(answer.content)]


@pytest.fixture
def serve(world: World, replica: Replica, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Return a function that lets the replica serve what was published."""
    replica.config = world.begin_epoch()
    release = world.release
    monkeypatch.setattr(world, "release", lambda **changes: release(callers=(OPERATOR,), **changes))

    async def start() -> Operated:
        return Operated(await replica.enrol())

    return start


class TestIndex:
    """Every released version, and where it stands."""

    async def test_what_is_loaded_is_ready(self, world: World, serve: Serve) -> None:
        world.publish(linear(), version="10")
        world.publish(linear(), version="9")
        world.publish(linear(), model="birds")

        assert await (await serve()).index() == [
            ("birds", "1", "READY", ""),
            ("tumours", "9", "READY", ""),
            ("tumours", "10", "READY", ""),
        ]

    async def test_what_failed_says_why(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        world.publish(linear(), model="birds")
        (world.store / "birds" / "1.s3ml").unlink()
        operated = await serve()

        (failed, _) = await operated.index()
        assert failed[:3] == ("birds", "1", "UNAVAILABLE")
        assert "cannot be read from the store" in failed[3]
        assert await operated.index(b'{"ready":true}') == [("tumours", "1", "READY", "")]

    async def test_what_is_malformed_is_a_400(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        status, _ = await (await serve()).post("/v2/repository/index", b"[]")

        assert status == 400


class TestUnloading:
    """Every version of the model goes, and stays away until it is loaded by request."""

    async def test_it_is_gone_and_others_are_not(self, world: World, serve: Serve) -> None:
        for version in ("1", "2"):
            world.publish(linear(), version=version)
        world.publish(linear(), model="birds")
        operated = await serve()

        assert await operated.post("/v2/repository/models/tumours/unload") == (200, "{}")
        assert (await operated.infer(), await operated.infer("birds")) == (404, 200)
        missing = await operated.ask("GET", "/v2/models/tumours")
        assert b"released, but not loaded: the repository's index says why" in bytes(missing.content)
        gc.collect()
        assert [entry[2:] for entry in await operated.index() if entry[0] == "tumours"] == [
            ("UNAVAILABLE", "unloaded by request")
        ] * 2

    async def test_a_version_that_was_never_released_is_not_said_to_be(
        self, world: World, serve: Serve
    ) -> None:
        world.publish(linear())
        missing = await (await serve()).ask("GET", "/v2/models/tumours/versions/2")

        assert (missing.status, b"released" in bytes(missing.content)) == (404, False)

    async def test_a_renewal_does_not_bring_it_back(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        await operated.post("/v2/repository/models/tumours/unload")
        await operated.replica.enrol()

        assert await operated.infer() == 404

    async def test_without_any_model_a_replica_can_still_be_asked_to_load_one(
        self, world: World, serve: Serve
    ) -> None:
        """A gateway sends nothing to who is not ready: nobody could load it again."""
        world.publish(linear())
        operated = await serve()
        replica = operated.replica
        await operated.post("/v2/repository/models/tumours/unload")
        assert not len(replica.serving.models)
        assert (await replica.call("GET", "/v2/health/ready")).status == 200

        await replica.enrol()
        assert (await replica.call("GET", "/v2/health/ready")).status == 200
        assert (await operated.post("/v2/repository/models/tumours/load"))[0] == 200
        assert await operated.infer() == 200

    async def test_who_computes_with_it_finishes(
        self, world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.publish(linear())
        operated = await serve()
        runtime: Any = operated.replica.repository.models.models["tumours", "1"].runtime
        began, gate, run = threading.Event(), threading.Event(), type(runtime).run

        def held(self: Any, inputs: Any, outputs: Any) -> Any:
            began.set()
            assert gate.wait(30)
            return run(self, inputs, outputs)

        monkeypatch.setattr(type(runtime), "run", held)
        del runtime
        asking = asyncio.ensure_future(operated.infer())
        await asyncio.to_thread(began.wait)
        await operated.post("/v2/repository/models/tumours/unload")
        assert [entry[2:] for entry in await operated.index()] == [
            ("UNLOADING", "requests on it are being answered")
        ]
        gate.set()

        assert await asking == 200

    async def test_it_may_be_asked_for_twice(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        for _ in range(2):
            assert (await operated.post("/v2/repository/models/tumours/unload"))[0] == 200

    @pytest.mark.parametrize("action", ["load", "unload"])
    async def test_a_model_that_was_not_released_is_a_404(
        self, world: World, serve: Serve, action: str
    ) -> None:
        world.publish(linear())
        status, text = await (await serve()).post(f"/v2/repository/models/other/{action}")

        assert (status, "the service has no such model" in text) == (404, True)

    async def test_the_end_of_the_lease_forgets_it(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        await operated.post("/v2/repository/models/tumours/unload")
        operated.replica.repository.clear()
        await operated.replica.enrol()

        assert await operated.infer() == 200


class TestLoading:
    """What the owners released, as they released it."""

    async def test_it_is_back(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        await operated.post("/v2/repository/models/tumours/unload")

        assert await operated.post("/v2/repository/models/tumours/load") == (200, "{}")
        assert await operated.infer() == 200
        assert await operated.index() == [("tumours", "1", "READY", "")]

    async def test_what_is_loaded_stays_as_it_is(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        before = operated.replica.repository.models.find("tumours", None)
        await operated.post(
            "/v2/repository/models/tumours/load", b'{"parameters":{"unload_dependents":true}}'
        )

        assert operated.replica.repository.models.find("tumours", None) is before

    @pytest.mark.parametrize(
        "content", [b"[]", b'{"parameters":{"config":"{}"}}', b'{"parameters":{"file:1/model.onnx":"AA=="}}']
    )
    async def test_a_request_configures_nothing(self, world: World, serve: Serve, content: bytes) -> None:
        world.publish(linear())
        status, _ = await (await serve()).post("/v2/repository/models/tumours/load", content)

        assert status == 400

    async def test_a_bundle_that_cannot_be_had_is_a_503(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        await operated.post("/v2/repository/models/tumours/unload")
        (world.store / "tumours" / "1.s3ml").unlink()
        status, text = await operated.post("/v2/repository/models/tumours/load")

        assert (status, "cannot be read from the store" in text) == (503, True)
        assert (await operated.index())[0][2] == "UNAVAILABLE"

    async def test_a_model_that_cannot_be_used_is_a_400(
        self, world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.publish(linear())
        operated = await serve()
        await operated.post("/v2/repository/models/tumours/unload")

        def refuse(_files: ModelFiles) -> Any:
            raise ModelUnusableError("model: no")

        monkeypatch.setattr(operated.replica.repository, "_open_runtime", refuse)

        assert await operated.post("/v2/repository/models/tumours/load") == (400, '{"error":"model: no"}')

    async def test_a_release_that_ended_meanwhile_brings_nothing_back(
        self, world: World, replica: Replica
    ) -> None:
        world.publish(linear())
        repository: Repository

        def ends_meanwhile(files: ModelFiles) -> Any:
            repository.clear()
            return open_model(files)

        repository = Repository(
            BundleStore(str(world.store)),
            open_runtime=ends_meanwhile,
            budget=MemoryBudget(MIB * 100),
            log=replica.repository._log,
        )

        assert len(repository.synchronise(world.release()).models) == 0

    async def test_one_that_is_being_opened_says_so(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        seen: list[tuple[IndexEntry, ...]] = []
        repository: Repository

        def look(files: ModelFiles) -> Any:
            seen.append(repository.index())
            return open_model(files)

        repository = Repository(
            BundleStore(str(world.store)),
            open_runtime=look,
            budget=MemoryBudget(MIB * 100),
            log=replica.repository._log,
        )
        repository.synchronise(world.release())

        assert [entry.state for entry in seen[0]] == [ModelState.LOADING]


class TestNewRelease:
    """A release is taken over without a request lost, and what it does not name goes first."""

    async def test_what_is_not_released_goes_before_anything_is_loaded(
        self, world: World, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.publish(linear())
        operated = await serve()
        del world.models["tumours", "1"]
        world.publish(linear(), model="birds")
        seen: list[int] = []
        serving = operated.replica.serving
        open_runtime = operated.replica.repository._open_runtime

        def look(files: ModelFiles) -> Any:
            seen.append(len(serving.models))
            return open_runtime(files)

        monkeypatch.setattr(operated.replica.repository, "_open_runtime", look)
        await operated.replica.enrol()

        assert seen == [0]
        assert (await operated.infer(), await operated.infer("birds")) == (404, 200)

    async def test_a_version_is_added_beside_the_others(self, world: World, serve: Serve) -> None:
        world.publish(linear())
        operated = await serve()
        before = operated.replica.repository.models.find("tumours", "1")
        world.publish(linear(2), version="2")
        await operated.replica.enrol()

        assert operated.replica.repository.models.find("tumours", "1") is before
        assert operated.replica.serving.models.versions("tumours") == ("1", "2")


class TestBudget:
    """A model that does not fit is refused with figures, and the others stay."""

    def limited(self, replica: Replica, capacity_bytes: int) -> Repository:
        return Repository(
            BundleStore(replica.settings.bundles),
            open_runtime=open_model,
            budget=MemoryBudget(capacity_bytes),
            log=replica.repository._log,
        )

    def test_what_the_owner_declared_counts(self, world: World, replica: Replica) -> None:
        large = Declaration(resources=Resources(memory_bytes=60 * MIB))
        world.publish(linear(), declaration=large)
        world.publish(linear(), model="birds", declaration=large)
        result = self.limited(replica, 100 * MIB).synchronise(world.release())

        (line,) = result.failures
        assert line == (
            "model birds 1: needs 60.0 MiB, 40.0 MiB of 100.0 MiB are free (tumours 1: 60.0 MiB): "
            "unload another model, or raise S3ML_MODEL_MEMORY_BYTES"
        )
        assert set(result.models.models) == {("tumours", "1")}

    def test_without_a_declaration_there_is_an_estimate(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        repository = self.limited(replica, 100 * MIB)
        repository.synchronise(world.release())

        assert repository.budget.held_bytes == estimate_bytes(len(linear()))

    def test_opening_takes_more_than_serving(self, world: World, replica: Replica) -> None:
        """A model that has room once it is open, and none while it is opened, is refused."""
        wide = build(
            [helper.make_node("MatMul", ["x", "w"], ["y"])],
            [value("x", TensorProto.FLOAT, "n", 100)],
            [value("y", TensorProto.FLOAT, "n", 100)],
            [numpy_helper.from_array(np.ones((100, 100), np.float32), "w")],
        ).SerializeToString()
        world.publish(wide, declaration=Declaration(resources=Resources(memory_bytes=1)))
        most_bytes = opening_bytes(len(wide))
        (line,) = self.limited(replica, most_bytes - 1).synchronise(world.release()).failures
        assert "needs 0.2 MiB, 0.2 MiB of 0.2 MiB are free" in line
        repository = self.limited(replica, most_bytes)
        repository.synchronise(world.release())

        assert repository.budget.held_bytes == 1

    def test_what_could_never_fit_is_not_even_fetched(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        (world.store / "tumours" / "1.s3ml").unlink()
        result = self.limited(replica, 10).synchronise(world.release())

        assert "are free" in result.failures[0]

    def test_what_goes_gives_back_what_it_held(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        repository = self.limited(replica, 100 * MIB)
        repository.synchronise(world.release())
        repository.unload("tumours")
        gc.collect()

        assert repository.budget.held_bytes == 0

    def test_who_still_computes_keeps_it(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        repository = self.limited(replica, 100 * MIB)
        used = repository.synchronise(world.release()).models.find("tumours", None)
        repository.unload("tumours")
        gc.collect()

        assert used is not None
        assert repository.budget.held_bytes == used.memory_bytes

    def test_a_model_that_fails_holds_nothing(self, world: World, replica: Replica) -> None:
        world.publish(linear())
        repository = self.limited(replica, 100 * MIB)

        def refuse(_files: ModelFiles) -> Any:
            raise ModelUnusableError("model: no")

        repository._open_runtime = refuse
        result = repository.synchronise(world.release())

        assert (len(result.failures), repository.budget.held_bytes) == (1, 0)

    def test_taking_and_giving(self) -> None:
        budget = MemoryBudget(10)
        budget.take(("a", "1"), 6)
        with pytest.raises(MemoryBudgetError):
            budget.take(("b", "1"), 5)
        budget.give(("a", "1"), 6)
        budget.take(("b", "1"), 10)

        assert budget.held_bytes == 10


class TestBatchingAtLoad:
    """Batching that the model cannot do is refused when it is loaded, not when it is used."""

    def test_rows_must_vary(self, world: World, replica: Replica) -> None:
        fixed = build(
            [helper.make_node("Neg", ["x"], ["y"])],
            [value("x", TensorProto.FLOAT, 1, 3)],
            [value("y", TensorProto.FLOAT, 1, 3)],
            [],
        ).SerializeToString()
        world.publish(fixed, declaration=Declaration(batching=Batching(max_size=8)))
        result = replica.repository.synchronise(world.release())

        assert "pack it without batching" in result.failures[0]

    def test_a_model_that_can_is_batched(self, world: World, replica: Replica) -> None:
        world.publish(linear(), declaration=Declaration(batching=Batching(max_size=8)))
        model = replica.repository.synchronise(world.release()).models.find("tumours", None)

        assert model is not None
        assert model.batching == Batching(max_size=8)

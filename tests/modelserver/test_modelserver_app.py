"""What is visible outside the seal."""

import asyncio
import json
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from s3ml.modelserver.admission import Admission
from s3ml.modelserver.app import MAX_REQUESTS, OFF_LOOP_BYTES
from s3ml.modelserver.execution import DeadlineError
from s3ml.modelserver.health import LEAST_ANSWERS
from s3ml.modelserver.replies import REJECTED, UNKNOWN_KEY
from s3ml.wire.ohttp import OHTTP_KEY_PROBLEM
from s3ml.wire.sealed import InnerRequest, ReplayGuard
from tests.modelserver.conftest import Replica, World, make_key

LIVE = InnerRequest(method="GET", path="/v2/health/live")
OHTTP = "/services/tumours/ohttp"
SEALED = {"content-type": "message/ohttp-req"}


class TestHealth:
    """A process is live at once, and ready with keys and a model."""

    async def test_it_is_live_before_it_has_anything(self, replica: Replica) -> None:
        reply = await replica.call("GET", "/v2/health/live")

        assert (reply.status, reply.json()) == (200, {"live": True})

    async def test_it_waits_unready_and_says_for_what(self, replica: Replica) -> None:
        reply = await replica.call("GET", "/v2/health/ready")

        assert reply.status == 503
        assert reply.json() == {"ready": False, "phase": "waiting for the service"}

    async def test_it_is_ready_with_keys_and_a_model(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call("GET", "/v2/health/ready")

        assert (reply.status, reply.json()) == (200, {"ready": True})

    async def test_keys_without_a_model_do_not_suffice(self, world: World, replica: Replica) -> None:
        world.begin_epoch()
        await replica.enrol()
        reply = await replica.call("GET", "/v2/health/ready")

        assert (reply.status, reply.json()["phase"]) == (503, "no model could be loaded")

    async def test_the_end_of_the_lease_ends_it(self, serving_replica: Replica) -> None:
        serving_replica.clock.elapsed_s = 900.0

        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 503
        assert not len(serving_replica.serving.models)

    async def test_many_sealed_failures_make_it_unready_for_a_while(self, serving_replica: Replica) -> None:
        for _ in range(LEAST_ANSWERS):
            serving_replica.serving.health.record(500, now_s=serving_replica.clock.monotonic_s())
        reply = await serving_replica.call("GET", "/v2/health/ready")
        assert (reply.status, reply.json()["phase"]) == (
            503,
            "failing: too many of its recent answers were errors",
        )

        serving_replica.clock.elapsed_s = 15.0
        assert (await serving_replica.call("GET", "/v2/health/ready")).status == 200

    async def test_draining_makes_it_unready_and_closes_connections(self, serving_replica: Replica) -> None:
        serving_replica.serving.is_draining = True
        reply = await serving_replica.call("GET", "/v2/health/ready")

        assert (reply.status, reply.json()["phase"]) == (503, "draining")
        assert reply.headers["connection"] == "close"

    async def test_metrics_are_served(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call("GET", "/metrics")

        assert reply.status == 200
        assert b's3ml_ready{service="tumours"} 1' in reply.body


class TestNothingElse:
    """Inference endpoints exist inside the seal only."""

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("GET", "/"),
            ("GET", "/v2"),
            ("GET", OHTTP),
            ("POST", "/v2/models/tumours/infer"),
            ("POST", "/services/other/ohttp"),
            ("POST", "/services/tumours/ohttp/"),
            ("POST", "/v2/health/live"),
            ("PUT", "/metrics"),
        ],
    )
    async def test_other_paths_are_not_found(self, serving_replica: Replica, method: str, path: str) -> None:
        assert (await serving_replica.call(method, path)).status == 404

    async def test_other_protocols_are_ignored(self, serving_replica: Replica) -> None:
        async def fail(*_arguments: Any) -> Any:
            raise AssertionError

        await serving_replica.app({"type": "websocket"}, fail, fail)


class TestBeforeOpening:
    """What does not open gets one of four plain answers."""

    async def test_without_keys_there_is_no_service_yet(self, replica: Replica, world: World) -> None:
        reply = await replica.post(replica.seal(LIVE, world.begin_epoch()).body)

        assert (reply.status, reply.headers["retry-after"]) == (503, "1")

    async def test_an_unknown_key_gets_the_problem_of_the_standard(self, serving_replica: Replica) -> None:
        other = World(serving_replica.world.folder).begin_epoch(first_id=77)
        reply = await serving_replica.post(serving_replica.seal(LIVE, other).body)

        assert (reply.status, reply.body) == (400, OHTTP_KEY_PROBLEM.content)
        assert reply.headers["content-type"] == "application/problem+json"
        assert "connection" not in reply.headers

    @pytest.mark.parametrize("change", ["garbled", "truncated", "empty", "other-key"])
    async def test_every_other_reason_looks_the_same(self, serving_replica: Replica, change: str) -> None:
        body = serving_replica.seal(LIVE).body
        wrong = {
            "garbled": body[:-1] + bytes([body[-1] ^ 1]),
            "truncated": body[:-20],
            "empty": b"",
            "other-key": serving_replica.seal(
                LIVE, World(serving_replica.world.folder).begin_epoch(first_id=1)
            ).body,
        }
        reply = await serving_replica.post(wrong[change])

        assert (reply.status, reply.json()) == (400, {"error": "sealed request: does not open"})

    @given(body=st.binary(max_size=1500))
    @settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_any_bytes_get_a_plain_400(self, serving_replica: Replica, body: bytes) -> None:
        reply = await serving_replica.post(body)

        assert (reply.status, reply.body) in {(400, UNKNOWN_KEY.content), (400, REJECTED.content)}

    @pytest.mark.parametrize("media_type", ["application/json", ""])
    async def test_another_media_type_is_one_of_them(self, serving_replica: Replica, media_type: str) -> None:
        reply = await serving_replica.post(serving_replica.seal(LIVE).body, **{"content-type": media_type})

        assert (reply.status, reply.json()) == (400, {"error": "sealed request: does not open"})

    async def test_a_stated_size_above_the_limit_is_refused_unread(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call(
            "POST", OHTTP, b"x", headers={**SEALED, "content-length": str((1 << 20) + 1)}
        )

        assert (reply.status, reply.headers["connection"]) == (413, "close")
        assert serving_replica.pieces_read == 0

    async def test_a_chunked_body_is_counted_as_it_comes(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call("POST", OHTTP, *([bytes(1 << 19)] * 8), headers=SEALED)

        assert reply.status == 413
        assert serving_replica.pieces_read == 3

    async def test_a_length_that_is_no_number_is_refused(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call("POST", OHTTP, headers={**SEALED, "content-length": "-1"})

        assert reply.status == 400

    async def test_a_client_that_leaves_is_let_go(self, serving_replica: Replica) -> None:
        reply = await serving_replica.call("POST", OHTTP, b"half", headers=SEALED, disconnects=True)

        assert reply.status == 400
        assert serving_replica.app.admission.in_flight == 0

    async def test_a_client_that_dawdles_is_let_go(
        self, serving_replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("s3ml.modelserver.bodies.BODY_DEADLINE_S", 0.0)

        async def receive() -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": OHTTP,
            "headers": [(b"content-type", b"message/ohttp-req")],
        }
        await serving_replica.app(scope, receive, send)

        assert sent[0]["status"] == 400

    async def test_a_spent_budget_refuses_before_reading(self, serving_replica: Replica) -> None:
        serving_replica.app.admission = Admission(
            budget_bytes=10, max_requests=MAX_REQUESTS, monotonic_s=time.monotonic
        )
        reply = await serving_replica.post(serving_replica.seal(LIVE).body)

        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert serving_replica.pieces_read == 0

    async def test_too_many_requests_are_refused(self, serving_replica: Replica) -> None:
        serving_replica.app.admission = Admission(
            budget_bytes=1 << 20, max_requests=0, monotonic_s=time.monotonic
        )

        assert (await serving_replica.post(b"")).status == 503

    async def test_a_fault_leaves_neither_traceback_nor_detail(
        self, serving_replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_arguments: Any, **_named: Any) -> Any:
            raise RuntimeError("SECRET")

        monkeypatch.setattr("s3ml.modelserver.app.open_identified", broken)
        reply = await serving_replica.post(serving_replica.seal(LIVE).body)

        assert (reply.status, reply.json()) == (500, {"error": "internal error"})
        assert serving_replica.events[-1]["error"] == "RuntimeError"
        assert "SECRET" not in serving_replica.log.getvalue()


class TestAfterOpening:
    """Once a request is open, everything about it is sealed under an outer 200."""

    async def test_a_chunked_body_is_put_together(self, serving_replica: Replica) -> None:
        sealed = serving_replica.seal(LIVE)
        reply = await serving_replica.call(
            "POST", OHTTP, sealed.body[:100], sealed.body[100:], headers=SEALED
        )

        assert json.loads(bytes(sealed.open_response(reply.body).content)) == {"live": True}

    async def test_the_replica_names_itself(self, serving_replica: Replica) -> None:
        assert (await serving_replica.ask("GET", "/v2/health/live")).field("s3ml-replica") == "replica-1"

    async def test_every_key_of_the_release_opens(self, world: World, replica: Replica) -> None:
        configs = [world.begin_epoch(1, first_id=1), world.begin_epoch(2, first_id=3)]
        await replica.enrol()
        for config in configs:
            assert (await replica.ask("GET", "/v2/health/live", config=config)).status == 200

    async def test_an_unknown_path_is_a_sealed_404(self, serving_replica: Replica) -> None:
        assert (await serving_replica.ask_json("GET", "/metrics"))[0] == 404

    async def test_a_replay_is_a_sealed_409(self, serving_replica: Replica) -> None:
        sealed = serving_replica.seal(LIVE)
        await serving_replica.post(sealed.body)
        reply = await serving_replica.post(sealed.body)

        assert (reply.status, sealed.open_response(reply.body).status) == (200, 409)

    async def test_a_replay_stays_one_when_keys_are_renewed(self, serving_replica: Replica) -> None:
        sealed = serving_replica.seal(LIVE)
        await serving_replica.post(sealed.body)
        await serving_replica.enrol()
        reply = await serving_replica.post(sealed.body)

        assert sealed.open_response(reply.body).status == 409

    async def test_an_old_date_is_a_sealed_problem(self, serving_replica: Replica) -> None:
        sealed = serving_replica.seal(LIVE)
        serving_replica.clock.elapsed_s = 400.0
        reply = await serving_replica.post(sealed.body)

        answer = sealed.open_response(reply.body)
        assert answer.status == 400
        assert answer.field("content-type") == "application/problem+json"

    async def test_a_full_table_is_a_sealed_503(self, serving_replica: Replica) -> None:
        serving_replica.app._replays = ReplayGuard(capacity=1)  # type: ignore[assignment]
        await serving_replica.ask("GET", "/v2/health/live")

        assert (await serving_replica.ask("GET", "/v2/health/live")).status == 503

    async def test_outer_fields_do_not_reach_the_inside(self, serving_replica: Replica) -> None:
        sealed = serving_replica.seal(
            InnerRequest(method="POST", path="/v2/models/tumours/infer", content=b"{")
        )
        reply = await serving_replica.post(sealed.body, **{"inference-header-content-length": "0"})

        assert b"JSON" in bytes(sealed.open_response(reply.body).content)

    async def test_a_large_request_is_opened_and_sealed_on_a_thread(self, serving_replica: Replica) -> None:
        serving_replica.app._limits = type(serving_replica.app._limits)(max_request_bytes=4 << 20)
        content = b" " * (OFF_LOOP_BYTES + 1)
        answer = await serving_replica.ask("POST", "/v2/models/tumours/infer", content)

        assert (answer.status, b"at most" in bytes(answer.content)) == (400, True)

    async def test_a_large_reply_that_takes_too_long_becomes_a_sealed_504(
        self, serving_replica: Replica, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from s3ml.wire.sealed import InnerResponse

        async def large(*_arguments: Any) -> InnerResponse:
            return InnerResponse(status=200, content=bytes(OFF_LOOP_BYTES))

        async def late(*_arguments: Any, **_named: Any) -> Any:
            raise DeadlineError("expected an end within 30 s")

        monkeypatch.setattr(type(serving_replica.app._inference), "answer", large)
        assert (await serving_replica.ask("GET", "/v2")).status == 200
        monkeypatch.setattr(type(serving_replica.bulk), "run", late)
        assert (await serving_replica.ask("GET", "/v2")).status == 504


class TestKeys:
    """A release's keys become a ring, or nothing does."""

    async def test_two_configurations_for_one_key_are_refused(self, world: World, replica: Replica) -> None:
        from s3ml.keyservice.documents import ReleasedEpoch, ReleasedKey
        from s3ml.wire.hpke import X25519_AES128

        one, two = make_key(X25519_AES128, 1), make_key(X25519_AES128, 2)
        both = ReleasedKey(key_config=one.key_config + two.key_config, private_key=one.private_key)
        world.epochs = [ReleasedEpoch(epoch=1, state="active", keys=(both,))]
        await replica.enrol()

        phase = (await replica.call("GET", "/v2/health/ready")).json()["phase"]
        assert "expected one configuration per key of epoch 1, got 2" in phase

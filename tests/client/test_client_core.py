"""What the client decides, without I/O: whom it seals to, when it tries again, what it refuses."""

from datetime import timedelta

import numpy as np
import pytest

from s3ml.client.budget import FIRST_PAUSE_S, LONGEST_PAUSE_S
from s3ml.client.core import MODEL_PATIENCE_S, Core
from s3ml.client.errors import (
    DeadlineExceededError,
    InvalidInputError,
    ModelError,
    UnknownServiceError,
    UntrustedServiceError,
)
from s3ml.client.inputs import Array
from s3ml.client.steps import Alone, HTTPReply, HTTPRequest
from s3ml.client.trusting import EARLY_RENEWAL_PAUSE_S, RENEW_AT_FRACTION
from s3ml.primitives.errors import ConfigurationError, UnavailableError, UntrustedPeerError
from s3ml.wire.ohttp import DATE_PROBLEM, PROBLEM_MEDIA_TYPE
from s3ml.wire.sealed import InnerResponse
from tests.client.world import (
    MODEL,
    SERVICE,
    TRUST,
    Driver,
    Fault,
    World,
    broken,
    inner,
    key_problem,
    make_core,
    sealed_reply,
    status,
)

ROWS = np.array([[1.0, 2.0]], dtype=np.float32)


def infer(core: Core, driver: Driver, *, timeout_s: float | None = None) -> Array:
    return driver.run(core.infer(SERVICE, {"x": ROWS}, timeout_s=timeout_s))["y"]


class TestInference:
    """Arrays go in sealed, arrays come out opened."""

    def test_arrays_in_arrays_out(self, core: Core, driver: Driver, world: World) -> None:
        outputs = infer(core, driver)
        assert outputs.tolist() == [[2.0, 4.0]]
        assert outputs.flags.writeable
        assert world.opened[0].request.path == f"/v2/models/{MODEL}/infer"

    def test_nothing_of_the_input_leaves_unsealed(self, core: Core, driver: Driver, world: World) -> None:
        rows = np.full((4, 2), 1234.5, dtype=np.float32)
        driver.run(core.infer(SERVICE, {"x": rows}))
        for request in world.seen:
            assert rows[0].tobytes() not in request.body
            assert b"infer" not in request.body

    def test_one_verification_serves_many_requests(self, core: Core, driver: Driver, world: World) -> None:
        for _ in range(3):
            infer(core, driver)
        assert len(world.asked) == 1
        assert core.statistics.requests == 3
        assert core.statistics.refreshes == 1

    def test_a_version_is_asked_for_by_path(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.infer(SERVICE, {"x": ROWS}, version="3"))
        assert world.opened[0].request.path == f"/v2/models/{MODEL}/versions/3/infer"

    def test_several_models_need_a_choice(self, core: Core, driver: Driver, world: World) -> None:
        world.models = ("a", "b")
        with pytest.raises(InvalidInputError, match="expected one of them as model=: a, b"):
            infer(core, driver)

    def test_metadata_of_server_and_model(self, core: Core, driver: Driver) -> None:
        assert driver.run(core.metadata(SERVICE)) == {"name": "s3ml"}
        assert driver.run(core.metadata(SERVICE, MODEL))["platform"] == "onnx"

    def test_metadata_that_is_no_json(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=200, content=b"<html>"))
        with pytest.raises(UntrustedServiceError, match="expected metadata in JSON"):
            driver.run(core.metadata(SERVICE))

    def test_an_answer_that_is_no_inference(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=200, content=b"{}"))
        with pytest.raises(UntrustedServiceError, match="its answer is malformed"):
            infer(core, driver)


class TestTrust:
    """A verification holds for its time and no longer, and is renewed ahead of its end."""

    def test_it_is_renewed_before_it_expires(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_it_is_not_renewed_early_without_reason(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION - 1)
        infer(core, driver)
        assert len(world.asked) == 1

    @pytest.mark.parametrize("fault", [broken, status(503), status(409)])
    def test_early_renewal_that_fails_leaves_what_holds(
        self, core: Core, driver: Driver, world: World, fault: Fault
    ) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        world.bundles.append(fault)
        infer(core, driver)
        assert core.statistics.retries == 0
        assert core.statistics.refreshes == 1

    def test_early_renewal_is_not_tried_with_every_request(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        world.bundles.extend([broken])
        infer(core, driver)
        infer(core, driver)
        assert len(world.asked) == 1
        world.clock.advance(EARLY_RENEWAL_PAUSE_S)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_early_renewal_waits_for_nobody(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        driver.busy.add(SERVICE)
        infer(core, driver)
        assert len(world.asked) == 1

    def test_trust_that_ends_during_early_renewal_is_renewed_for_good(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)

        def slow(request: HTTPRequest) -> HTTPReply:
            world.clock.advance(200)
            return broken(request)

        world.bundles.append(slow)
        infer(core, driver, timeout_s=300.0)
        assert core.statistics.refreshes == 2

    def test_early_renewal_that_somebody_finished_is_not_repeated(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        waiting = core.infer(SERVICE, {"x": ROWS})
        step = next(waiting)
        assert isinstance(step, Alone)
        driver.run(core.verify(SERVICE))

        driver.run(step.program())

        assert core.statistics.refreshes == 2

    def test_early_renewal_that_is_refused_stops_the_client(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        infer(core, driver)
        world.clock.advance(600 * RENEW_AT_FRACTION)
        world.log_size = 7
        world.bundles.append(lambda _: HTTPReply(status=200, body=b"{}"))
        with pytest.raises(Exception, match="Object missing required field"):
            infer(core, driver)

    def test_expired_trust_seals_nothing(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.clock.advance(600)
        world.bundles.extend([broken] * 100)
        with pytest.raises(DeadlineExceededError):
            infer(core, driver)
        assert len(world.sealed_bodies) == 1

    def test_a_clock_turned_back_extends_nothing(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.clock.advance(700)
        world.clock.wall -= timedelta(hours=2)
        world.server_offset = timedelta(hours=2)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_a_suspended_machine_extends_nothing(self, core: Core, driver: Driver, world: World) -> None:
        """Linux's monotonic clock stands still while the machine is suspended."""
        infer(core, driver)
        world.clock.wall += timedelta(seconds=700)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_the_pinned_age_bounds_the_statements_own(self, world: World, driver: Driver) -> None:
        core = make_core(
            world,
            trust=type(TRUST)(
                deployment=TRUST.deployment,
                key_service_policy=TRUST.key_service_policy,
                follow="owners",
                max_age_s=60,
            ),
        )
        infer(core, driver)
        world.clock.advance(60)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_every_nonce_is_fresh(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.verify(SERVICE))
        driver.run(core.verify(SERVICE))
        assert len({asked.nonce for asked in world.asked}) == 2

    def test_verify_verifies_each_time(self, core: Core, driver: Driver, world: World) -> None:
        assert driver.run(core.verify(SERVICE)).service == SERVICE
        driver.run(core.verify(SERVICE))
        assert core.statistics.refreshes == 2

    def test_the_newest_log_is_remembered(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.verify(SERVICE))
        world.log_size = 9
        driver.run(core.verify(SERVICE))
        driver.run(core.verify(SERVICE))
        assert [asked.known_size for asked in world.asked] == [None, 5, 9]

    def test_a_log_that_moved_on_meanwhile_is_asked_for_again(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        """Another service's verification ended in between, and nothing joins the two logs."""

        def meanwhile(_: HTTPRequest) -> None:
            core._trusting._log_state.remember(7, b"\x07" * 32, since=None)

        world.bundles.append(meanwhile)
        world.log_size = 9
        driver.run(core.verify(SERVICE))
        assert [asked.known_size for asked in world.asked] == [None, 7]
        assert core.statistics.retries == 1

    def test_a_failed_check_is_final(self, core: Core, driver: Driver, world: World) -> None:
        world.bundles.append(lambda _: HTTPReply(status=200, body=world.answer(world.seen[-1]).body[:-1]))
        with pytest.raises(Exception, match="truncated"):
            infer(core, driver)
        assert world.sealed_bodies == []

    def test_a_bundle_for_another_question_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        driver.run(core.verify(SERVICE))
        old = world._bundle(world.seen[0])
        world.bundles.append(lambda _: old)
        with pytest.raises(UntrustedPeerError, match="answers another question"):
            driver.run(core.verify(SERVICE))

    def test_simulated_is_said_loudly_once(
        self, core: Core, driver: Driver, world: World, caplog: pytest.LogCaptureFixture
    ) -> None:
        world.is_simulated = True
        driver.run(core.verify(SERVICE))
        driver.run(core.verify(SERVICE))
        said = [record.getMessage() for record in caplog.records]
        assert sum("SIMULATED" in line for line in said) == 1
        assert sum("NOT FORK-PROTECTED" in line for line in said) == 1

    def test_unknown_service(self, core: Core, driver: Driver) -> None:
        with pytest.raises(UnknownServiceError, match="'birds': the key service does not know it: no such"):
            driver.run(core.infer("birds", {"x": ROWS}))

    def test_key_service_that_refuses(self, core: Core, driver: Driver, world: World) -> None:
        world.bundles.append(status(403))
        with pytest.raises(ConfigurationError, match="refused the question: for the moment"):
            infer(core, driver)

    def test_key_service_that_does_not_state_the_service_now(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        """It serves an older log than was seen, or a policy was replaced: retrying at once mends neither."""
        world.bundles.append(status(409))
        with pytest.raises(UnavailableError, match="does not state it now: for the moment"):
            infer(core, driver)
        assert core.statistics.retries == 0

    def test_malformed_service_name(self, core: Core, driver: Driver, world: World) -> None:
        with pytest.raises(ConfigurationError, match="service: expected 1 to 63"):
            driver.run(core.infer("../keys", {"x": ROWS}))
        assert world.seen == []


class TestRefresh:
    """A key that a replica does not know is replaced, once at once."""

    def test_new_epoch_costs_one_refresh(self, core: Core, driver: Driver, world: World) -> None:
        infer(core, driver)
        world.rotate()
        assert infer(core, driver).tolist() == [[2.0, 4.0]]
        assert core.statistics.refreshes == 2
        assert core.statistics.retries == 0
        assert driver.pauses_s == []

    def test_a_replica_that_lags_is_waited_for(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.extend([key_problem, key_problem])
        infer(core, driver)
        assert core.statistics.retries == 1
        assert core.statistics.refreshes == 3

    def test_a_gateway_that_always_refuses_ends_with_the_deadline(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.extend([key_problem] * 1000)
        with pytest.raises(DeadlineExceededError, match="newest key yet"):
            infer(core, driver, timeout_s=5.0)
        assert world.clock.seconds <= 1005.0

    def test_somebody_elses_refresh_is_used(self, core: Core, driver: Driver, world: World) -> None:
        """The problem arrives after another call has refreshed already."""
        infer(core, driver)

        def refreshed_meanwhile(request: object) -> HTTPReply:
            driver.run(core.verify(SERVICE))
            return key_problem(request)  # type: ignore[arg-type]

        world.sealed.append(refreshed_meanwhile)
        infer(core, driver)
        assert core.statistics.refreshes == 2

    def test_another_problem_document_refreshes_nothing(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.append(
            lambda _: HTTPReply(
                status=400, headers={"content-type": PROBLEM_MEDIA_TYPE}, body=DATE_PROBLEM.content
            )
        )
        with pytest.raises(UntrustedServiceError, match="expected a sealed answer, got status 400"):
            infer(core, driver)


class TestDate:
    """A clock that is wrong is corrected by the service's own word, sealed."""

    def test_wrong_clock_is_corrected_once(self, core: Core, driver: Driver, world: World) -> None:
        world.server_offset = timedelta(hours=3)
        assert infer(core, driver).tolist() == [[2.0, 4.0]]
        assert len(world.sealed_bodies) == 2
        assert core.statistics.retries == 0

    def test_the_correction_is_remembered(self, core: Core, driver: Driver, world: World) -> None:
        world.server_offset = timedelta(hours=-3)
        infer(core, driver)
        infer(core, driver)
        assert len(world.sealed_bodies) == 3

    def test_it_never_extends_trust(self, core: Core, driver: Driver, world: World) -> None:
        world.server_offset = timedelta(hours=-3)
        infer(core, driver)
        world.clock.advance(600)
        infer(core, driver)
        assert len(world.asked) == 2

    def test_a_second_refusal_is_final(self, core: Core, driver: Driver, world: World) -> None:
        answer = InnerResponse(
            status=400,
            fields=(("content-type", PROBLEM_MEDIA_TYPE), ("date", "Sun, 01 Nov 2026 09:00:00 GMT")),
            content=DATE_PROBLEM.content,
        )
        world.answers.extend([answer, answer])
        with pytest.raises(UnavailableError, match="the clocks of its replicas differ"):
            infer(core, driver)
        assert len(world.sealed_bodies) == 2

    def test_a_refusal_without_a_date(self, core: Core, driver: Driver, world: World) -> None:
        answer = InnerResponse(
            status=400, fields=(("content-type", PROBLEM_MEDIA_TYPE),), content=DATE_PROBLEM.content
        )
        world.answers.append(answer)
        with pytest.raises(UnavailableError, match="named none of its own"):
            infer(core, driver)


class TestRetries:
    """What failed for the moment is sealed afresh and tried again, within the caller's time."""

    @pytest.mark.parametrize("fault", [broken, status(429), status(502), status(503), status(504)])
    def test_it_is_tried_again(self, core: Core, driver: Driver, world: World, fault: object) -> None:
        world.sealed.append(fault)  # type: ignore[arg-type]
        assert infer(core, driver).tolist() == [[2.0, 4.0]]
        assert core.statistics.retries == 1

    @pytest.mark.parametrize("code", [409, 429, 503])
    def test_a_sealed_refusal_for_the_moment_too(
        self, core: Core, driver: Driver, world: World, code: int
    ) -> None:
        world.answers.append(inner(code, "later", ("retry-after", "2")))
        infer(core, driver)
        assert driver.pauses_s == [2 + FIRST_PAUSE_S]

    def test_the_key_service_is_waited_for(self, core: Core, driver: Driver, world: World) -> None:
        world.bundles.extend([broken, status(503), status(429)])
        assert infer(core, driver).tolist() == [[2.0, 4.0]]
        assert core.statistics.retries == 3

    def test_every_attempt_is_sealed_afresh(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.extend([broken, broken])
        infer(core, driver)
        bodies = world.sealed_bodies
        assert len(bodies) == len(set(bodies)) == 3
        assert len({body[7:1127] for body in bodies}) == 3

    def test_a_request_that_a_gateway_delivered_twice_succeeds(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.append(lambda request: world._ohttp(request) and None)
        assert infer(core, driver).tolist() == [[2.0, 4.0]]
        assert core.statistics.retries == 1

    def test_pauses_grow_up_to_a_limit(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.extend([broken] * 9)
        infer(core, driver)
        assert driver.pauses_s[:3] == [FIRST_PAUSE_S, 2 * FIRST_PAUSE_S, 4 * FIRST_PAUSE_S]
        assert max(driver.pauses_s) == LONGEST_PAUSE_S

    def test_retry_after_is_honoured(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(503, retry_after="3"))
        infer(core, driver)
        assert driver.pauses_s == [3 + FIRST_PAUSE_S]

    def test_a_retry_after_beyond_the_deadline_fails_at_once(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.append(status(503, retry_after="3600"))
        with pytest.raises(DeadlineExceededError) as failed:
            infer(core, driver)
        assert failed.value.retry_after_s == 3600
        assert driver.pauses_s == []

    @pytest.mark.parametrize("value", ["soon", "-1", "1.5", "Sun, 01 Nov 2026 09:00:00 GMT", "9" * 11, "٣"])
    def test_a_retry_after_that_is_no_number_of_seconds_is_ignored(
        self, core: Core, driver: Driver, world: World, value: str
    ) -> None:
        world.sealed.append(status(503, retry_after=value))
        infer(core, driver)
        assert driver.pauses_s == [FIRST_PAUSE_S]

    def test_the_deadline_holds(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.extend([broken] * 1000)
        with pytest.raises(DeadlineExceededError, match=r"the last of \d+ attempts: gateway: the"):
            infer(core, driver, timeout_s=5.0)
        assert world.clock.seconds <= 1005.0

    def test_no_time_is_left_after_verifying(self, core: Core, driver: Driver, world: World) -> None:
        world.bundles.append(lambda _: world.clock.advance(31))
        with pytest.raises(DeadlineExceededError, match="no time left for the request"):
            infer(core, driver)

    @pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
    def test_a_timeout_that_is_none(self, core: Core, driver: Driver, timeout_s: float) -> None:
        with pytest.raises(ConfigurationError, match="timeout_s: expected more than 0 seconds"):
            infer(core, driver, timeout_s=timeout_s)

    def test_each_request_gets_the_time_that_is_left(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(503, retry_after="3"))
        infer(core, driver, timeout_s=10.0)
        assert world.seen[0].timeout_s == 10.0
        assert world.seen[-1].timeout_s == pytest.approx(7.0 - FIRST_PAUSE_S)


class TestAnswers:
    """The service's sealed word is final; the gateway's word is never taken for it."""

    def test_a_model_that_the_service_states_is_waited_for(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        """A replica takes up a new model with its next lease; until then it says 404."""
        world.answers.append(inner(404, "model tumours: not served here"))
        infer(core, driver)
        assert core.statistics.retries == 1

    def test_a_model_that_no_replica_takes_up_is_given_up(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        """It was unloaded: a replica that lacks it only for the moment would have it by then."""
        world.answers.extend([inner(404, "model classifier: not served here")] * 100)
        with pytest.raises(InvalidInputError, match="not served here"):
            infer(core, driver)
        assert sum(driver.pauses_s) < MODEL_PATIENCE_S + LONGEST_PAUSE_S

    def test_a_version_that_the_service_does_not_state_is_not(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.answers.append(inner(404, "model tumours version 9: not served here"))
        with pytest.raises(InvalidInputError, match="not served here"):
            driver.run(core.infer(SERVICE, {"x": ROWS}, version="9"))
        assert core.statistics.retries == 0

    @pytest.mark.parametrize("code", [400, 405, 422])
    def test_wrong_input_is_said_in_the_services_line(
        self, core: Core, driver: Driver, world: World, code: int
    ) -> None:
        world.answers.append(inner(code, "input 'x': expected FP32 [-1,30], got FP64"))
        with pytest.raises(InvalidInputError, match=r"expected FP32 \[-1,30\], got FP64"):
            infer(core, driver)
        assert core.statistics.retries == 0

    def test_a_model_that_failed(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(500, "execution failed"))
        with pytest.raises(ModelError, match="answered 500: execution failed"):
            infer(core, driver)
        assert core.statistics.retries == 0

    def test_a_line_is_one_line_and_short(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(inner(400, "a\n\x1b[31m" + "b" * 10_000))
        with pytest.raises(InvalidInputError) as refused:
            infer(core, driver)
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 500

    def test_a_refusal_without_a_line(self, core: Core, driver: Driver, world: World) -> None:
        world.answers.append(InnerResponse(status=400, content=b"<html>"))
        with pytest.raises(InvalidInputError, match="no reason given"):
            infer(core, driver)

    def test_the_gateways_error_is_not_the_services(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(422))
        with pytest.raises(UntrustedServiceError, match="expected a sealed answer, got status 422"):
            infer(core, driver)

    def test_an_answer_in_the_clear_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(
            lambda _: HTTPReply(status=200, headers={"content-type": "application/json"}, body=b"{}")
        )
        with pytest.raises(UntrustedServiceError, match="expected an answer of type message/ohttp-res"):
            infer(core, driver)

    def test_a_changed_answer_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(lambda request: sealed_reply(world._ohttp(request).body[:-1] + b"\x00"))
        with pytest.raises(UntrustedServiceError, match="the answer does not open"):
            infer(core, driver)

    def test_the_answer_to_another_request_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        kept: list[HTTPReply] = []
        world.sealed.append(lambda request: kept.append(world._ohttp(request)) or kept[0])  # type: ignore[func-returns-value]
        infer(core, driver)
        world.sealed.append(lambda _: kept[0])
        with pytest.raises(UntrustedServiceError, match="the answer does not open"):
            infer(core, driver)

    def test_a_changed_request_is_refused(self, core: Core, driver: Driver, world: World) -> None:
        """The replica answers its uniform 400, which carries no reason."""
        world.sealed.append(lambda _: HTTPReply(status=400, body=b'{"error":"bad request"}'))
        with pytest.raises(UntrustedServiceError, match="changed on its way"):
            infer(core, driver)

    def test_a_service_that_the_gateway_does_not_route_to(
        self, core: Core, driver: Driver, world: World
    ) -> None:
        world.sealed.append(status(404))
        with pytest.raises(UnknownServiceError, match="the gateway does not route to it"):
            infer(core, driver)

    def test_a_request_that_is_too_large(self, core: Core, driver: Driver, world: World) -> None:
        world.sealed.append(status(413))
        with pytest.raises(InvalidInputError, match="more than the service accepts"):
            infer(core, driver)

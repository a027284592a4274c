"""What a replica shows to the outside: coarse, slow, per service, in the words of Triton and KServe."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from s3ml.modelserver.memory import resident_bytes
from s3ml.modelserver.metrics import (
    LEAST_ANSWERS,
    RENEWAL_S,
    Gauges,
    Metrics,
    Rejection,
)
from s3ml.modelserver.samples import FAMILIES, exposition
from s3ml.modelserver.tally import Failure, Outcome
from s3ml.modelserver.timing import Timing
from s3ml.wire.oip import ModelState
from tests.modelserver.conftest import BUDGET_BYTES, Replica

QUIET = Gauges(is_ready=True)


def inference(**stages: float | None) -> Timing:
    """A request of three rows that took 1, 2, 4, 8 and 16 ms from stage to stage."""
    timing = Timing(
        begun_s=1.0,
        opened_s=1.0,
        queued_s=1.001,
        started_s=1.003,
        computed_s=1.007,
        encoded_s=1.015,
        finished_s=1.031,
        is_inference=True,
        rows=3,
    )
    for stage, value in stages.items():
        setattr(timing, stage, value)
    return timing


def metadata() -> Timing:
    return Timing(begun_s=1.0, opened_s=1.0, finished_s=1.001)


class Reader:
    """Reads samples as Prometheus would, each time after a renewal."""

    def __init__(self) -> None:
        self.metrics = Metrics("tumours", started_at_s=1_790_000_000.0)
        self.now_s = 100.0

    def text(self, gauges: Gauges = QUIET) -> str:
        self.now_s += RENEWAL_S
        return self.metrics.render(lambda: gauges, now_s=self.now_s).decode()

    def samples(self, gauges: Gauges = QUIET) -> dict[str, float]:
        return read(self.text(gauges))


def read(text: str) -> dict[str, float]:
    """Return each sample by its name and its label beside the service."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {**sample.labels}
            assert labels.pop("service") == "tumours"
            # The parser names counters as OpenMetrics does, whether or not Prometheus would.
            name = family.name if family.name in FAMILIES and family.type == "counter" else sample.name
            found[" ".join((name, *labels.values()))] = sample.value
    return found


@pytest.fixture
def reader() -> Reader:
    return Reader()


class TestRenewal:
    """Samples change slowly."""

    def test_they_are_renewed_after_ten_seconds_and_not_before(self) -> None:
        metrics = Metrics("tumours")
        before = metrics.render(lambda: QUIET, now_s=100.0)
        metrics.reject(Rejection.TOO_LARGE)

        assert metrics.render(lambda: QUIET, now_s=100.0 + RENEWAL_S - 0.1) == before
        after = metrics.render(lambda: QUIET, now_s=100.0 + RENEWAL_S)
        assert b's3ml_requests_total{service="tumours",outcome="rejected"} 1\n' in after

    def test_the_present_is_not_even_asked_for_in_between(self) -> None:
        metrics, asked = Metrics("tumours"), []

        def gauges() -> Gauges:
            asked.append(1)
            return QUIET

        for offset_s in (0.0, 1.0, 9.9, 10.0, 19.0):
            metrics.render(gauges, now_s=100.0 + offset_s)
        assert len(asked) == 2


class TestWhatIsSealed:
    """Few answers tell nothing: neither of their outcome, nor of their size, nor of their time."""

    def test_fewer_than_twenty_answers_change_no_sample(self, reader: Reader) -> None:
        before = reader.text()
        for _ in range(LEAST_ANSWERS - 1):
            reader.metrics.answer(500, inference())
            reader.metrics.execute(rows=3)
        reader.metrics.cancel(inference())

        assert reader.text() == before

    def test_twenty_are_shown_together(self, reader: Reader) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, inference())
        samples = reader.samples()
        assert samples["s3ml_requests_total answered"] == LEAST_ANSWERS
        assert samples["nv_inference_request_success"] == LEAST_ANSWERS

    def test_the_next_are_held_back_again(self, reader: Reader) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, inference())
        first = reader.text()
        reader.metrics.answer(401, metadata())
        assert reader.text() == first

    def test_what_is_seen_from_outside_is_shown_meanwhile(self, reader: Reader) -> None:
        reader.metrics.answer(503, inference())
        reader.metrics.reject(Rejection.BUDGET)
        assert reader.samples()["s3ml_requests_total overloaded"] == 1

    def test_no_label_names_a_model(self) -> None:
        assert {family.label for family in FAMILIES.values()} == {
            None,
            "outcome",
            "reason",
            "state",
            "version",
        }


class TestOutcomes:
    """Each request counts once."""

    @pytest.mark.parametrize(
        ("status", "outcome"),
        [
            (200, Outcome.ANSWERED),
            (400, Outcome.ANSWERED),
            (404, Outcome.ANSWERED),
            (401, Outcome.REFUSED),
            (403, Outcome.REFUSED),
            (429, Outcome.REFUSED),
            (500, Outcome.FAILED),
            (504, Outcome.FAILED),
            (503, Outcome.OVERLOADED),
        ],
    )
    def test_a_sealed_answer_counts_by_its_status(
        self, reader: Reader, status: int, outcome: Outcome
    ) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(status, metadata())
        samples = reader.samples()
        assert {o: samples[f"s3ml_requests_total {o}"] for o in Outcome} == {
            o: LEAST_ANSWERS if o is outcome else 0 for o in Outcome
        }

    @pytest.mark.parametrize("rejection", Rejection)
    def test_a_plain_reply_counts_by_its_reason(self, reader: Reader, rejection: Rejection) -> None:
        reader.metrics.reject(rejection)
        samples = reader.samples()
        assert samples[f"s3ml_rejections_total {rejection}"] == 1
        assert samples[f"s3ml_requests_total {rejection.outcome}"] == 1
        assert sum(samples[f"s3ml_requests_total {o}"] for o in Outcome) == 1

    @pytest.mark.parametrize(
        ("status", "started", "failure"),
        [
            (400, None, Failure.OTHER),
            (404, None, Failure.OTHER),
            (503, None, Failure.REJECTED),
            (504, None, Failure.REJECTED),
            (504, 1.0, Failure.BACKEND),
            (500, 1.0, Failure.BACKEND),
        ],
    )
    def test_an_inference_without_a_result_counts_by_tritons_reasons(
        self, reader: Reader, status: int, started: float | None, failure: Failure
    ) -> None:
        timing = Timing(begun_s=1.0, started_s=started, finished_s=2.0, is_inference=True)
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(status, timing)
        samples = reader.samples()
        assert samples[f"nv_inference_request_failure {failure}"] == LEAST_ANSWERS
        assert samples["nv_inference_request_success"] == 0
        assert samples["nv_inference_request_duration_us"] == 0

    def test_callers_who_left_are_canceled_requests(self, reader: Reader) -> None:
        reader.metrics.cancel(inference())
        reader.metrics.cancel(metadata())
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, metadata())
        assert reader.samples()["nv_inference_request_failure CANCELED"] == 1

    def test_metadata_is_no_inference(self, reader: Reader) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, metadata())
        samples = reader.samples()
        assert samples["nv_inference_request_success"] == 0
        assert samples["request_predict_seconds_count"] == 0


class TestInference:
    """Sums mean what Triton's and KServe's mean."""

    def test_durations_are_sums_over_requests(self, reader: Reader) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, inference())
        samples = reader.samples()
        ms = {
            "nv_inference_request_duration_us": 31,
            "nv_inference_queue_duration_us": 2,
            "nv_inference_compute_infer_duration_us": 4,
            "nv_inference_compute_output_duration_us": 8,
        }
        for name, each_ms in ms.items():
            assert samples[name] == pytest.approx(LEAST_ANSWERS * each_ms * 1000), name
        seconds = {"preprocess": 0.001, "predict": 0.006, "postprocess": 0.024}
        for name, each_s in seconds.items():
            assert samples[f"request_{name}_seconds_sum"] == pytest.approx(LEAST_ANSWERS * each_s), name
            assert samples[f"request_{name}_seconds_count"] == LEAST_ANSWERS

    def test_batches_count_executions_and_rows(self, reader: Reader) -> None:
        reader.metrics.execute(rows=8)
        reader.metrics.execute(rows=4)
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, inference())
        samples = reader.samples()
        assert (samples["nv_inference_exec_count"], samples["nv_inference_count"]) == (2, 12)

    def test_a_result_with_a_stage_missing_counts_without_its_times(self, reader: Reader) -> None:
        for _ in range(LEAST_ANSWERS):
            reader.metrics.answer(200, inference(encoded_s=None))
        samples = reader.samples()
        assert samples["nv_inference_request_success"] == LEAST_ANSWERS
        assert samples["nv_inference_request_duration_us"] == 0

    def test_work_that_is_turned_away_is_told_from_work_that_fails(self) -> None:
        waiting = Timing(begun_s=1.0, opened_s=1.0)
        assert waiting.was_turned_away(503)
        assert not waiting.was_turned_away(500)
        assert not Timing(begun_s=1.0).was_turned_away(503)
        assert not inference().was_turned_away(503)


class TestGauges:
    """The present, as far as it may be seen."""

    def test_each_has_its_sample(self, reader: Reader) -> None:
        gauges = Gauges(
            is_ready=False,
            is_draining=True,
            models={ModelState.READY: 2, ModelState.LOADING: 1},
            in_flight=3,
            reserved_bytes=4096,
            budget_bytes=8192,
            lease_s=123.4,
            memory_bytes=1 << 20,
            memory_budget_bytes=1 << 30,
            resident_bytes=1 << 27,
        )
        samples = reader.samples(gauges)
        assert (samples["s3ml_ready"], samples["s3ml_draining"]) == (0, 1)
        assert [samples[f"s3ml_models {state}"] for state in ModelState] == [2, 0, 1, 0]
        assert samples["s3ml_in_flight_requests"] == 3
        assert (samples["s3ml_reserved_bytes"], samples["s3ml_budget_bytes"]) == (4096, 8192)
        assert samples["s3ml_lease_seconds"] == 123
        assert samples["s3ml_model_memory_bytes"] == 1 << 20
        assert samples["s3ml_model_memory_budget_bytes"] == 1 << 30
        assert samples["process_resident_memory_bytes"] == 1 << 27
        assert samples["process_start_time_seconds"] == 1_790_000_000

    def test_what_is_not_known_is_left_out(self, reader: Reader) -> None:
        text = reader.text()
        assert "process_resident_memory_bytes" not in text
        assert "s3ml_model_memory_budget_bytes" not in text

    def test_resident_memory_is_read_where_there_is_linux(self, tmp_path: Path) -> None:
        assert (resident_bytes() or 0) > 1 << 20
        assert resident_bytes(tmp_path / "missing") is None
        for content in (b"", b"0 0 0", b"12"):
            (tmp_path / "statm").write_bytes(content)
            assert resident_bytes(tmp_path / "statm") is None


class TestExposition:
    """The text is what Prometheus reads."""

    def test_every_family_is_parsed_with_its_kind_and_meaning(self) -> None:
        values = {
            (name + suffix, "x" if family.label else ""): 1.5
            for name, family in FAMILIES.items()
            for suffix in family.suffixes()
        }
        parsed = list(text_string_to_metric_families(exposition(values, service="tumours").decode()))
        assert [(f.type, f.documentation) for f in parsed] == [(f.kind, f.text) for f in FAMILIES.values()]
        assert sum(len(f.samples) for f in parsed) == len(values)

    def test_only_known_families_are_shown(self) -> None:
        assert exposition({("secret", ""): 1.0}, service="tumours").strip() == b""


class TestReplica:
    """What a whole replica shows of what it did."""

    async def shown(self, replica: Replica) -> dict[str, float]:
        replica.clock.elapsed_s += RENEWAL_S
        reply = await replica.call("GET", "/metrics")
        assert reply.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        return read(reply.body.decode())

    async def test_inferences_are_counted_once_computed(self, serving_replica: Replica) -> None:
        rows = {"name": "x", "shape": [2, 3], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6]}
        for _ in range(LEAST_ANSWERS):
            status, _ = await serving_replica.ask_json("POST", "/v2/models/tumours/infer", {"inputs": [rows]})
            assert status == 200
        samples = await self.shown(serving_replica)
        assert samples["nv_inference_request_success"] == LEAST_ANSWERS
        assert samples["nv_inference_exec_count"] == LEAST_ANSWERS
        assert samples["request_predict_seconds_count"] == LEAST_ANSWERS
        assert samples["s3ml_requests_total answered"] == LEAST_ANSWERS

    async def test_mistakes_and_metadata_are_told_from_results(self, serving_replica: Replica) -> None:
        for _ in range(LEAST_ANSWERS // 2):
            await serving_replica.ask_json("POST", "/v2/models/tumours/infer", {})
            await serving_replica.ask_json("GET", "/v2/models/tumours")
        samples = await self.shown(serving_replica)
        assert samples["nv_inference_request_failure OTHER"] == LEAST_ANSWERS // 2
        assert samples["nv_inference_request_success"] == 0
        assert samples["s3ml_requests_total answered"] == LEAST_ANSWERS

    async def test_plain_replies_are_counted_by_reason(self, serving_replica: Replica) -> None:
        await serving_replica.post(b"")
        await serving_replica.call("POST", "/services/tumours/ohttp", b"x")
        samples = await self.shown(serving_replica)
        assert samples["s3ml_rejections_total unopened"] == 1
        assert samples["s3ml_rejections_total media-type"] == 1

    async def test_what_it_holds_is_shown(self, serving_replica: Replica) -> None:
        samples = await self.shown(serving_replica)
        assert samples["s3ml_models READY"] == 1
        assert samples["s3ml_lease_seconds"] == 900 - RENEWAL_S
        assert samples["s3ml_model_memory_budget_bytes"] == BUDGET_BYTES
        assert 0 < samples["s3ml_model_memory_bytes"] < BUDGET_BYTES
        assert samples["s3ml_budget_bytes"] == 8 << 20

    async def test_without_keys_there_is_no_lease(self, replica: Replica) -> None:
        samples = await self.shown(replica)
        assert (samples["s3ml_ready"], samples["s3ml_lease_seconds"]) == (0, 0)

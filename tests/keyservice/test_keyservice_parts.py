"""The small parts: batching, the audit stream, events, metrics, settings, epochs."""

import asyncio
import hashlib
import io
import json
import threading
from collections.abc import Sequence

import msgspec
import pytest

from s3ml.keyservice import service as service_module
from s3ml.keyservice.audit import BATCH, AuditStream
from s3ml.keyservice.batching import Batcher
from s3ml.keyservice.documents import AuditRecord, EpochEntry, ReleasesEntry
from s3ml.keyservice.epochs import key_ids
from s3ml.keyservice.errors import mismatch
from s3ml.keyservice.events import EventLog
from s3ml.keyservice.log import LogTamperedError, Written
from s3ml.keyservice.metrics import Metrics
from s3ml.keyservice.settings import parse_settings
from s3ml.keyservice.state import apply
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError
from tests.clocks import NOW, FakeClock
from tests.keyservice.keyservice_world import World

RECORD = AuditRecord(
    time=NOW,
    service="tumours",
    policy_sha256="ab" * 32,
    epochs=(1,),
    models=("cd" * 32,),
    tee="simulated",
    measurement=hashlib.sha256(b"code").hexdigest(),
    public_key_sha256="ef" * 32,
)
GIVEN = {"S3ML_LISTEN": "[::1]:8081", "S3ML_DATABASE": "/data/log.sqlite"}


async def stopped(task: asyncio.Future[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class TestBatcher:
    def make(self, answer: object, **limits: int) -> Batcher[int, int]:
        bounds = {"max_batch": 2, "max_waiting": 10, **limits}
        return Batcher(answer, window_s=0.0, **bounds)  # type: ignore[arg-type]

    async def test_batches_are_bounded(self) -> None:
        sizes: list[int] = []

        async def answer(questions: Sequence[int]) -> Sequence[int]:
            sizes.append(len(questions))
            return [-question for question in questions]

        batcher = self.make(answer)
        task = asyncio.ensure_future(batcher.run())
        assert await asyncio.gather(*(batcher.ask(n) for n in range(5))) == [0, -1, -2, -3, -4]
        await stopped(task)
        assert max(sizes) == 2

    async def test_a_bug_fails_its_batch_alone(self) -> None:
        async def answer(questions: Sequence[int]) -> Sequence[int]:
            if questions[0] == 0:
                raise RuntimeError("a bug")
            return questions

        batcher = self.make(answer)
        task = asyncio.ensure_future(batcher.run())
        with pytest.raises(UnavailableError, match="RuntimeError"):
            await batcher.ask(0)
        assert await batcher.ask(1) == 1
        await stopped(task)

    async def test_who_has_gone_is_passed_over(self) -> None:
        async def answer(questions: Sequence[int]) -> Sequence[int | S3MLError]:
            return [UnavailableError("no") if question == 2 else question for question in questions]

        batcher = self.make(answer, max_batch=3)
        gone = asyncio.ensure_future(batcher.ask(1))
        refused = asyncio.ensure_future(batcher.ask(2))
        stays = asyncio.ensure_future(batcher.ask(3))
        await asyncio.sleep(0)
        gone.cancel()
        task = asyncio.ensure_future(batcher.run())
        assert await stays == 3
        with pytest.raises(UnavailableError, match="no"):
            await refused
        await stopped(task)

    async def test_stopping_tells_whoever_waits(self) -> None:
        begun = asyncio.Event()

        async def answer(_: Sequence[int]) -> Sequence[int]:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        batcher = self.make(answer, max_batch=1)
        answered, waiting, gone = (asyncio.ensure_future(batcher.ask(n)) for n in range(3))
        task = asyncio.ensure_future(batcher.run())
        await begun.wait()
        gone.cancel()
        await asyncio.sleep(0)
        await stopped(task)
        for future in (answered, waiting):
            with pytest.raises(UnavailableError, match="is stopping"):
                await future


class TestAudit:
    async def test_a_full_batch_is_committed_at_once(self) -> None:
        batches: list[int] = []
        committed = asyncio.Event()

        async def commit(records: Sequence[bytes]) -> None:
            batches.append(len(records))
            committed.set()

        stream = AuditStream(commit, failed=lambda _: None)
        task = asyncio.ensure_future(stream.run())
        for _ in range(BATCH):
            stream.add(RECORD)
        await committed.wait()
        stream.add(RECORD)
        await stopped(task)
        assert batches == [BATCH, 1]

    async def test_a_failure_is_told_and_tried_again(self) -> None:
        told: list[UnavailableError] = []
        failed = asyncio.Event()

        async def commit(_: Sequence[bytes]) -> None:
            if not told:
                raise UnavailableError("disk is full")

        def tell(error: UnavailableError) -> None:
            told.append(error)
            failed.set()

        stream = AuditStream(commit, failed=tell, period_s=0.001)
        stream.add(RECORD)
        task = asyncio.ensure_future(stream.run())
        await failed.wait()
        await stopped(task)
        assert len(stream) == 0
        assert len(told) == 1

    async def test_releases_are_committed_in_order(self, serving: World) -> None:
        for _ in range(3):
            await serving.release(serving.session())
            await serving.service._audit.flush()
        assert serving.view.state.audited == 3
        record = json.loads(serving.storage.audit(0, 1)[0])
        assert record["service"] == "tumours"
        assert serving.identity not in json.dumps(record)

    def test_the_service_tells_of_it(self, world: World) -> None:
        world.service._report_audit(UnavailableError("disk is full"))
        assert world.told[-1]["event"] == "audit-not-stored"


class TestEvents:
    def test_a_line_each(self) -> None:
        lines = io.StringIO()
        log = EventLog(lines.write, FakeClock())
        log.emit("x", status=3, detail="a\nb", mismatches=[mismatch("c", expected=1, got=2)])
        record = json.loads(lines.getvalue())
        assert lines.getvalue().count("\n") == 1
        assert record["mismatches"] == [{"claim": "c", "expected": "1", "got": "2"}]

    def test_other_fields_are_a_bug(self) -> None:
        with pytest.raises(ValueError, match="not on the list: private_key"):
            EventLog(lambda _: None, FakeClock()).emit("x", private_key="s")


class TestMetrics:
    def test_text(self, world: World) -> None:
        metrics = Metrics()
        metrics.count("s3ml_keyservice_releases_total", outcome="refused")
        metrics.count("s3ml_keyservice_trust_bundles_total", 2)
        text = metrics.render(world.service.gauges())
        assert 's3ml_keyservice_releases_total{outcome="refused"} 1.0\n' in text
        assert "s3ml_keyservice_trust_bundles_total 2.0\n" in text
        assert "s3ml_keyservice_log_size 0.0\n" in text


class TestSettings:
    def test_known_ones(self) -> None:
        settings = parse_settings({**GIVEN, "S3ML_SIMULATED_PLATFORM": "", "PATH": "/bin"})
        assert (settings.host, settings.port, settings.simulated_platform) == ("::1", 8081, None)
        assert (settings.pccs_urls, settings.pcs_urls, settings.kds_urls) == ((), (), ())

    def test_addresses_of_collateral(self) -> None:
        settings = parse_settings(
            {
                **GIVEN,
                "S3ML_KDS_URL": "https://kds",
                "S3ML_PCCS_URL": "https://a:8081, http://b",
                "S3ML_PCS_URL": "https://pcs",
            }
        )
        assert settings.pccs_urls == ("https://a:8081", "http://b")
        assert (settings.pcs_urls, settings.kds_urls) == (("https://pcs",), ("https://kds",))

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"S3ML_ALLOW": "1"}, "unknown: S3ML_ALLOW"),
            ({"S3ML_DATABASE": ""}, "missing: S3ML_DATABASE"),
            ({"S3ML_LISTEN": "8081"}, "expected host:port"),
            ({"S3ML_LISTEN": "host:99999"}, "expected host:port"),
            ({"S3ML_LISTEN": "host:http"}, "expected host:port"),
            ({"S3ML_KDS_URL": "kds"}, "S3ML_KDS_URL: expected addresses"),
            ({"S3ML_PCCS_URL": "file:///a"}, "S3ML_PCCS_URL: expected addresses"),
            ({"S3ML_PCS_URL": "https://a,"}, "S3ML_PCS_URL: expected addresses"),
        ],
    )
    def test_others(self, changes: dict[str, str], told: str) -> None:
        with pytest.raises(ConfigurationError, match=told):
            parse_settings({**GIVEN, **changes})


class TestEpochs:
    def test_key_ids_differ_for_128_epochs(self) -> None:
        ids = [key_id for number in range(1, 129) for key_id in key_ids(number)]
        assert sorted(ids) == list(range(256))


class TestWhatFollows:
    """An entry that the chain accepts must also follow from what the log says."""

    def next_entry(self, world: World, body: EpochEntry | ReleasesEntry) -> Written:
        return world.service.replica.ledger._reader.chain.build(body, time=world.clock.now())

    async def test_an_epoch(self, serving: World) -> None:
        state = serving.view.state
        (active,) = state.epochs["tumours"].living
        right = EpochEntry(
            service="tumours",
            policy_sha256=active.policy_sha256,
            epoch=2,
            state="pending",
            generation=active.generation,
            key_configs=b"",
            reason="scheduled",
        )
        applied = apply(state, self.next_entry(serving, right)).epochs["tumours"]
        assert [epoch.number for epoch in applied.living] == [1, 2]
        for changes in (
            {"epoch": 3},
            {"epoch": 1},
            {"state": "active"},
            {"policy_sha256": "ab" * 32},
            {"service": "others"},
        ):
            wrong = msgspec.structs.replace(right, **changes)
            with pytest.raises(LogTamperedError, match="does not follow"):
                apply(state, self.next_entry(serving, wrong))

    async def test_a_batch_of_the_audit_stream(self, serving: World) -> None:
        wrong = ReleasesEntry(first=1, count=1, sha256="ab" * 32)
        with pytest.raises(LogTamperedError, match="expected record 0, got 1"):
            apply(serving.view.state, self.next_entry(serving, wrong))


class TestQuotes:
    async def test_a_tee_has_a_deadline(self, serving: World, monkeypatch: pytest.MonkeyPatch) -> None:
        done = threading.Event()
        monkeypatch.setattr(service_module, "QUOTE_TIMEOUT_S", 0.01)
        monkeypatch.setattr(serving.attester, "quote", lambda _: done.wait(10))
        with pytest.raises(UnavailableError, match="in time"):
            await serving.bundle()
        done.set()

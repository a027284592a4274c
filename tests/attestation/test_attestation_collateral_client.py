"""The caching client against services that play Intel's, honest and not."""

import errno
import logging
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from s3ml.attestation import Collateral, EvidenceMalformedError
from s3ml.attestation.collateral import CollateralUnavailableError, Transport, retrieval
from s3ml.attestation.collateral.cache import FolderCache, MemoryCache
from s3ml.attestation.collateral.item import Content, Inquiry, Item, Proof, Proven, encode_item
from s3ml.attestation.simulated.collateral import TcbState
from s3ml.attestation.simulated.pki import SimulatedPKI
from tests.attestation.attestation_world import CREATED, ISSUED, NOW, World
from tests.attestation.collateral_world import FMSPC, SetClock, intel_client
from tests.attestation.fakes.provisioning import (
    ROOT_CRL_PATH,
    Answer,
    Fault,
    ProvisioningServer,
    after,
    garbage,
    honestly,
    pccs_answers,
    pcs_answers,
    redirect,
    serving,
    silent,
    status,
    truncated,
)
from tests.attestation.tdx_world import TdxWorld

TCB_INFO = f"/sgx/certification/v4/tcb?fmspc={FMSPC}&update=standard"
TCB_INFO_PATH = "/sgx/certification/v4/tcb"
Replaced = Callable[[Collateral], dict[str, Answer]]


def told(collateral: Collateral) -> dict[str, Answer]:
    return pcs_answers(collateral, fmspc=FMSPC)


@pytest.fixture
def honest(pki: SimulatedPKI) -> Collateral:
    return pki.collateral(ISSUED)


@pytest.fixture
def server(honest: Collateral) -> Iterator[ProvisioningServer]:
    with serving(told(honest)) as running:
        yield running


@pytest.fixture
def second(honest: Collateral) -> Iterator[ProvisioningServer]:
    with serving(told(honest)) as running:
        yield running


def number_of(collateral: Collateral) -> int:
    return int(collateral.tcb_info.partition('"tcbEvaluationDataNumber":')[2].partition(",")[0])


THING = Inquiry(
    name="name",
    what="thing",
    targets=(),
    read=lambda _: Content(),
    prove=lambda _, now: Proof(issued_at=now, valid_until=now),
    refresh_after_s=None,
    max_age_s=None,
)


def dated(issued_at: datetime) -> Proven:
    item = Item(name="name", confirmed_at=issued_at, source="here")
    return Proven(item=item, proof=Proof(issued_at=issued_at, valid_until=NOW + timedelta(days=1)))


@pytest.fixture
def retriever(tmp_path: Path) -> Iterator[retrieval.Retriever]:
    clock = SetClock()
    made = retrieval.Retriever(transport=Transport(clock=clock), folder=FolderCache(tmp_path), clock=clock)
    yield made
    made.close()


class TestWhatIsFetched:
    """What a service delivers is what evidence needs, byte for byte."""

    def test_collateral_of_an_sgx_quote_comes_from_a_pcs(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            assert made.client.for_quote(world.quote) == honest

    def test_what_was_fetched_makes_evidence_that_verifies(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            fetched = made.client.for_quote(world.quote)
        assert world.with_(collateral=fetched).rejected_claims() == []

    def test_collateral_of_a_tdx_quote_comes_from_a_pcs(self, pki: SimulatedPKI) -> None:
        world = TdxWorld.honest(pki)
        assert world.collateral is not None
        answers = pcs_answers(world.collateral, fmspc=FMSPC, technology="tdx")
        with serving(answers) as server, intel_client(pki, server) as made:
            assert made.client.for_quote(world.quote) == world.collateral

    def test_collateral_comes_from_a_pccs_too(
        self, pki: SimulatedPKI, world: World, honest: Collateral
    ) -> None:
        answers = pccs_answers(honest, fmspc=FMSPC)
        with serving(answers) as server, intel_client(pki, server, is_pccs=True) as made:
            assert made.client.for_quote(world.quote) == honest

    def test_early_documents_are_asked_for_by_name(
        self, pki: SimulatedPKI, world: World, honest: Collateral
    ) -> None:
        answers = pcs_answers(honest, fmspc=FMSPC, update="early")
        with serving(answers) as server, intel_client(pki, server, update="early") as made:
            assert made.client.for_quote(world.quote) == honest

    def test_no_quote_is_no_question(self, pki: SimulatedPKI, server: ProvisioningServer) -> None:
        with intel_client(pki, server) as made, pytest.raises(EvidenceMalformedError):
            made.client.for_quote(b"\x03\x00no quote")
        assert server.requests == []


class TestSoftLimit:
    """Past the soft limit the item at hand serves at once, and a newer one is asked for in the background."""

    def test_what_is_fresh_is_not_asked_for_again(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(3600)
            assert made.client.for_quote(world.quote) == honest
        assert len(server.requests) == 4

    def test_the_old_one_serves_while_the_new_one_comes(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        newer = pki.collateral(NOW, TcbState(evaluation_data_number=2))
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            server.answers = told(newer)
            made.clock.advance(3601)
            assert made.client.for_quote(world.quote) == honest
            for _ in range(8):
                server.arrived.acquire(timeout=120)
            made.client.close()
            assert made.client.for_quote(world.quote) == newer

    def test_a_confirmation_without_content_counts(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(3601)
            made.client.for_quote(world.quote)
            for _ in range(8):
                server.arrived.acquire(timeout=120)
            made.client.close()
            assert server.fields_of(TCB_INFO)["if-none-match"] == server.answers[TCB_INFO].fields["ETag"]
            made.clock.advance(3600)
            assert made.client.for_quote(world.quote) == honest
        assert len(server.requests) == 8

    def test_what_cannot_be_renewed_still_serves_and_is_said(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        server: ProvisioningServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.WARNING, "s3ml.collateral")
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            server.fault = status(500)
            made.clock.advance(3601)
            assert made.client.for_quote(world.quote) == honest
            server.arrived.acquire(timeout=120)
        assert any("not renewed" in record.getMessage() for record in caplog.records)

    def test_a_renewal_that_failed_is_not_tried_with_every_call(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            server.answers = {}
            made.clock.advance(3601)
            made.client.for_quote(world.quote)
            for _ in range(8):
                server.arrived.acquire(timeout=120)
            while made.client._retriever._flights:
                threading.Event().wait(0.001)
            made.client.for_quote(world.quote)
        assert len(server.requests) == 8

    def test_one_renewal_at_a_time(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            held = threading.Event()
            server.fault = after(held, honestly)
            made.clock.advance(3601)
            for _ in range(5):
                assert made.client.for_quote(world.quote) == honest
            held.set()
        assert len(server.requests) <= 8


class TestHardLimit:
    """Past the hard limit, or its own next update, an item does not serve."""

    def test_past_the_greatest_age_it_is_fetched(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(10 * 86400)
            newer = pki.collateral(made.clock.now())
            server.answers = told(newer)
            fetched = made.client.for_quote(world.quote)
        assert fetched.tcb_info == newer.tcb_info

    @pytest.mark.parametrize("late", [timedelta(days=10), timedelta(days=31)])
    def test_nothing_is_given_where_nobody_delivers(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer, late: timedelta
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            server.fault = status(503, Retry_After="7")
            made.clock.advance(late.total_seconds())
            with pytest.raises(
                CollateralUnavailableError, match=r"answered 503|left alone for 7 s"
            ) as refused:
                made.client.for_quote(world.quote)
        assert refused.value.retry_after_s == 7

    @pytest.mark.parametrize(
        "issued", [NOW - timedelta(days=11), NOW - timedelta(days=40), NOW + timedelta(days=1)]
    )
    def test_what_is_too_old_or_not_yet_valid_falls_over_to_the_next(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        server: ProvisioningServer,
        second: ProvisioningServer,
        issued: object,
    ) -> None:
        server.answers = told(pki.collateral(issued))  # type: ignore[arg-type]
        with intel_client(pki, server, second) as made:
            fetched = made.client.for_quote(world.quote)
        assert fetched.tcb_info == honest.tcb_info

    def test_a_clock_turned_back_makes_nothing_young(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(-1800)
            made.client.for_quote(world.quote)
            for _ in range(8):
                assert server.arrived.acquire(timeout=120)


class TestRollback:
    """An older document never replaces a newer one."""

    def test_a_lower_number_falls_over_to_the_next_endpoint(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer, second: ProvisioningServer
    ) -> None:
        newest = pki.collateral(ISSUED, TcbState(evaluation_data_number=5))
        server.answers, second.answers = told(newest), told(newest)
        with intel_client(pki, server, second) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(10 * 86400)
            later = made.clock.now()
            server.answers = told(pki.collateral(later, TcbState(evaluation_data_number=4)))
            second.answers = told(pki.collateral(later, TcbState(evaluation_data_number=5)))
            assert number_of(made.client.for_quote(world.quote)) == 5

    def test_an_earlier_issue_date_changes_nothing(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            server.answers = told(pki.collateral(ISSUED - timedelta(hours=1)))
            made.clock.advance(3601)
            made.client.for_quote(world.quote)
            for _ in range(8):
                assert server.arrived.acquire(timeout=120)
            made.client.close()
            assert made.client.for_quote(world.quote) == honest

    def test_an_older_file_that_is_put_back_is_not_read(
        self, pki: SimulatedPKI, world: World, tmp_path: Path, server: ProvisioningServer
    ) -> None:
        server.answers = told(pki.collateral(ISSUED, TcbState(evaluation_data_number=4)))
        with intel_client(pki, server, folder=tmp_path) as made:
            made.client.for_quote(world.quote)
        (file,) = tmp_path.glob("*tcb-info*")
        older = file.read_bytes()
        newest = told(pki.collateral(NOW, TcbState(evaluation_data_number=5)))
        file.unlink()
        server.answers = newest
        with intel_client(pki, server, folder=tmp_path) as made:
            assert number_of(made.client.for_quote(world.quote)) == 5
            file.write_bytes(older)
            made.client._retriever._memory._items.clear()
            assert number_of(made.client.for_quote(world.quote)) == 5

    def test_nothing_comes_between_the_look_and_the_keeping(
        self, retriever: retrieval.Retriever, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        older, newer = dated(ISSUED), dated(NOW)
        put = retriever._memory.put
        others = iter([newer])

        def interrupted(proven: Proven) -> None:
            if proven is older and not retriever._lock.locked():
                retriever._remember(THING, next(others))  # another thread's turn
            put(proven)

        monkeypatch.setattr(MemoryCache, "put", lambda _, proven: interrupted(proven))
        retriever._remember(THING, older)
        for other in others:
            retriever._remember(THING, other)
        assert retriever.get(THING) is newer

    def test_whoever_reads_an_older_file_gets_what_another_thread_fetched_meanwhile(
        self, retriever: retrieval.Retriever, tmp_path: Path
    ) -> None:
        older, newer = dated(ISSUED), dated(NOW)
        file = tmp_path / "name.json"
        file.write_bytes(encode_item(older.item))

        def prove(_item: Item, _now: datetime) -> Proof:
            retriever._remember(THING, newer)  # another thread's turn
            retriever._store(THING, newer)
            return older.proof

        retriever.close()  # so that nobody is asked
        assert retriever.get(replace(THING, prove=prove)) is newer
        assert file.read_bytes() == encode_item(newer.item)

    def test_what_has_no_order_takes_no_place_among_the_newest(self, retriever: retrieval.Retriever) -> None:
        later, earlier = (
            replace(one, proof=replace(one.proof, is_ordered=False)) for one in (dated(NOW), dated(ISSUED))
        )
        for one in (later, earlier):
            retriever._remember(THING, one)
        assert retriever.get(THING) is earlier
        assert not retriever._newest

    def test_what_is_remembered_is_bounded(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(retrieval, "NEWEST_LIMIT", 2)
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            assert len(made.client._retriever._newest) == 2


class TestEndpoints:
    """Endpoints are asked in order; what fails or lies falls over to the next, and is left alone."""

    @pytest.mark.parametrize(
        "fault",
        [
            status(500),
            status(429),
            status(404),
            status(403),
            garbage,
            truncated,
            redirect("http://127.0.0.2:1/"),
        ],
    )
    def test_a_fault_of_one_is_another_ones_turn(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        server: ProvisioningServer,
        second: ProvisioningServer,
        fault: Fault,
    ) -> None:
        server.fault = fault
        with intel_client(pki, server, second) as made:
            assert made.client.for_quote(world.quote) == honest
        assert len(second.requests) == 4

    def test_another_vendors_signatures_are_discarded_and_said(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        server: ProvisioningServer,
        second: ProvisioningServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        caplog.set_level(logging.WARNING, "s3ml.collateral")
        stranger = SimulatedPKI.create(CREATED)
        server.answers = told(stranger.collateral(ISSUED))
        with intel_client(pki, server, second) as made:
            assert made.client.for_quote(world.quote) == honest
        said = caplog.records[0].getMessage()
        assert "discarded" in said
        assert server.url in said

    @pytest.mark.parametrize("step", ["_received", "prove"])
    def test_a_reply_that_surprises_the_reader_is_another_ones_turn(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        server: ProvisioningServer,
        second: ProvisioningServer,
        monkeypatch: pytest.MonkeyPatch,
        step: str,
    ) -> None:
        does = getattr(retrieval, step)
        surprises = iter([OverflowError("no bug that is known")])

        def surprised(*given: object) -> object:
            for surprise in surprises:
                raise surprise
            return does(*given)

        monkeypatch.setattr(retrieval, step, surprised)
        with intel_client(pki, server, second) as made:
            assert made.client.for_quote(world.quote) == honest
        assert (len(server.requests), len(second.requests)) == (1, 4)

    def test_who_lied_is_left_alone(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer, second: ProvisioningServer
    ) -> None:
        server.fault = garbage
        with intel_client(pki, server, second) as made:
            made.client.for_quote(world.quote)
        assert len(server.requests) == 1

    def test_all_failures_are_told(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer, second: ProvisioningServer
    ) -> None:
        server.fault, second.fault = status(500), garbage
        with intel_client(pki, server, second) as made, pytest.raises(CollateralUnavailableError) as refused:
            made.client.for_quote(world.quote)
        message = str(refused.value)
        assert f"{server.url}{ROOT_CRL_PATH} answered 500" in message
        assert f"{second.url}{ROOT_CRL_PATH} delivered what does not hold" in message
        assert "\n" not in message

    def test_without_endpoints_nothing_is_delivered(self, pki: SimulatedPKI, world: World) -> None:
        with (
            intel_client(pki) as made,
            pytest.raises(CollateralUnavailableError, match="no endpoint is known"),
        ):
            made.client.for_quote(world.quote)


class TestManyThreads:
    """However many threads want an item, one of them fetches it."""

    def test_one_request_serves_all(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        got: list[Collateral] = []
        with intel_client(pki, server) as made:
            threads = [
                threading.Thread(target=lambda: got.append(made.client.for_quote(world.quote)))
                for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert got == [honest] * 8
        assert len(server.requests) == 4

    def test_whoever_waits_learns_of_the_failure(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        go = threading.Event()
        server.fault = after(go, status(500))
        failures: list[str] = []

        def ask() -> None:
            try:
                made.client.for_quote(world.quote)
            except CollateralUnavailableError as failure:
                failures.append(str(failure))

        with intel_client(pki, server) as made:
            threads = [threading.Thread(target=ask) for _ in range(2)]
            threads[0].start()
            server.arrived.acquire(timeout=120)
            threads[1].start()
            go.set()
            for thread in threads:
                thread.join()
        assert len(failures) == 2


class TestClosing:
    """A closed client asks nobody."""

    def test_what_is_missing_cannot_be_had(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.close()
            with pytest.raises(CollateralUnavailableError, match="closed"):
                made.client.for_quote(world.quote)
        assert server.requests == []

    def test_nothing_is_renewed(
        self, pki: SimulatedPKI, world: World, honest: Collateral, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.client.close()
            made.clock.advance(3601)
            assert made.client.for_quote(world.quote) == honest
        assert len(server.requests) == 4

    def test_whoever_waits_for_a_renewal_that_is_given_up_is_told(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server, deadline_s=2.0) as made:
            made.client.for_quote(world.quote)
            server.fault = silent
            made.clock.advance(3601)
            made.client.for_quote(world.quote)  # two renewals are under way, two wait
            made.clock.advance(10 * 86400)
            server.arrived.acquire(timeout=120)
            inquiry_threads = threading.Thread(target=made.client.close)
            inquiry_threads.start()
            with pytest.raises(CollateralUnavailableError):
                made.client.for_quote(world.quote)
            inquiry_threads.join()

    def test_whoever_waits_for_one_that_never_began_is_told(self) -> None:
        given_up: Future[Proven] = Future()
        given_up.cancel()
        with pytest.raises(CollateralUnavailableError, match="thing: this client is closed"):
            retrieval._await(THING, given_up)


class TestFolder:
    """What a folder gives back is proved again before it is used."""

    def test_a_second_process_asks_nobody(
        self, pki: SimulatedPKI, world: World, honest: Collateral, tmp_path: Path, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server, folder=tmp_path) as made:
            made.client.for_quote(world.quote)
        with intel_client(pki, folder=tmp_path) as made:
            assert made.client.for_quote(world.quote) == honest

    @pytest.mark.parametrize(
        "change",
        [
            lambda data: data.replace(b"UpToDate", b"UpToDatf"),
            lambda data: data[: len(data) // 2],
            lambda data: b"",
            lambda data: data + b" " * 70_000,
            lambda data: data.replace(b"tcb-info", b"tcb-inf0"),
        ],
        ids=["changed", "truncated", "empty", "oversized", "of another name"],
    )
    def test_what_was_changed_is_discarded_and_fetched_anew(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        tmp_path: Path,
        server: ProvisioningServer,
        caplog: pytest.LogCaptureFixture,
        change: Callable[[bytes], bytes],
    ) -> None:
        caplog.set_level(logging.WARNING, "s3ml.collateral")
        with intel_client(pki, server, folder=tmp_path) as made:
            made.client.for_quote(world.quote)
        (file,) = tmp_path.glob("*tcb-info*")
        file.write_bytes(change(file.read_bytes()))
        with intel_client(pki, server, folder=tmp_path) as made:
            assert made.client.for_quote(world.quote) == honest
        assert server.paths.count(TCB_INFO_PATH) == 2
        assert "discarded" in caplog.records[0].getMessage()

    def test_a_folder_that_cannot_be_written_stops_nothing(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        tmp_path: Path,
        server: ProvisioningServer,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        folder = tmp_path / "cache"
        with intel_client(pki, server, folder=folder) as made:
            folder.rmdir()
            assert made.client.for_quote(world.quote) == honest
        assert "not kept" in caplog.records[0].getMessage()

    def test_an_expired_file_is_not_used(
        self, pki: SimulatedPKI, world: World, tmp_path: Path, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server, folder=tmp_path) as made:
            made.client.for_quote(world.quote)
        late = SetClock(instant=NOW + timedelta(days=31))
        with (
            intel_client(pki, clock=late, folder=tmp_path) as made,
            pytest.raises(CollateralUnavailableError),
        ):
            made.client.for_quote(world.quote)

    def test_a_file_that_may_not_be_looked_at_counts_as_none_and_is_said(
        self,
        *,
        pki: SimulatedPKI,
        world: World,
        honest: Collateral,
        tmp_path: Path,
        server: ProvisioningServer,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def forbidden(path: Path) -> bool:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

        caplog.set_level(logging.WARNING, "s3ml.collateral")
        with intel_client(pki, server, folder=tmp_path) as made:
            monkeypatch.setattr(Path, "exists", forbidden)
            assert made.client.for_quote(world.quote) == honest
        assert "Permission denied" in caplog.records[0].getMessage()
        assert "the folder" in caplog.records[0].getMessage()


class TestValidators:
    """Nobody signs a validator: it counts between this client and its source alone, while the item serves."""

    def test_one_from_a_folder_freezes_nothing(
        self, pki: SimulatedPKI, world: World, tmp_path: Path, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server, folder=tmp_path) as made:
            made.client.for_quote(world.quote)
        newer = pki.collateral(NOW, TcbState(evaluation_data_number=2))
        old_tag = server.answers[TCB_INFO].fields["ETag"].strip('"').encode()
        server.answers = told(newer)
        new_tag = server.answers[TCB_INFO].fields["ETag"].strip('"').encode()
        (file,) = tmp_path.glob("*tcb-info*")
        file.write_bytes(file.read_bytes().replace(old_tag, new_tag))
        assert new_tag in file.read_bytes()
        with intel_client(pki, server, folder=tmp_path, clock=SetClock(NOW + timedelta(hours=2))) as made:
            made.client.for_quote(world.quote)
            for _ in range(8):
                assert server.arrived.acquire(timeout=120)
            made.client.close()
            assert number_of(made.client.for_quote(world.quote)) == 2
        assert "if-none-match" not in server.fields_of(TCB_INFO)

    def test_none_is_sent_for_what_no_longer_serves(
        self, pki: SimulatedPKI, world: World, server: ProvisioningServer
    ) -> None:
        with intel_client(pki, server) as made:
            made.client.for_quote(world.quote)
            made.clock.advance(10 * 86400)
            newer = pki.collateral(made.clock.now(), TcbState(evaluation_data_number=2))
            stale_tag = server.answers[TCB_INFO].fields["ETag"]
            body = told(newer)[TCB_INFO]
            server.answers = told(newer) | {
                TCB_INFO: Answer(body=body.body, fields={**body.fields, "ETag": stale_tag})
            }
            assert number_of(made.client.for_quote(world.quote)) == 2
        assert "if-none-match" not in server.fields_of(TCB_INFO)

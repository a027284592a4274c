"""The simulated platform: it says what it measured, to whom it launched, and to nobody else."""

import asyncio
import base64
import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from s3ml.attestation import (
    Alternative,
    AppraisalPolicy,
    EvidenceRejectedError,
    RuntimeEvent,
    Technology,
    Tee,
    parse_evidence,
    verify_evidence,
)
from s3ml.attestation.simulated import instances, listener, platform
from s3ml.attestation.simulated.admin import InstanceStatus
from s3ml.attestation.simulated.attester import SimulatedAttester
from s3ml.attestation.simulated.image import Image
from s3ml.attestation.simulated.launch import Role
from s3ml.attestation.simulated.protocol import PlatformRefusedError
from s3ml.attestation.simulated.quoter import (
    COLLATERAL_LEAD,
    IMAGE_REGISTER,
    measurement_of_image,
    signer_of,
)
from s3ml.attestation.simulated.tdx_event_log import measured_event
from s3ml.attestation.verify import SgxClaims, SnpClaims, TdxClaims
from s3ml.primitives.errors import ConfigurationError, UnavailableError
from tests.attestation.platform_world import (
    AGENT,
    DEADLINE_S,
    Agent,
    AgentImages,
    PlatformWorld,
    blocking,
    running_platform,
)

REPORT_DATA = bytes(range(64))
QUOTE = {"ask": "quote", "report_data": base64.b64encode(REPORT_DATA).decode()}
SEALING_KEY = {"ask": "sealing-key"}


@dataclass(slots=True)
class SetClock:
    """A clock that tests set."""

    time: datetime

    def now(self) -> datetime:
        return self.time

    def monotonic_s(self) -> float:
        return self.time.timestamp()


@pytest.fixture
def clock() -> SetClock:
    return SetClock(datetime(2026, 11, 1, 12, tzinfo=UTC))


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Image:
    return AgentImages(tmp_path_factory.mktemp("base")).obtain("model-server", None)


@pytest.fixture
async def world(tmp_path: Path, clock: SetClock, base: Image) -> AsyncIterator[PlatformWorld]:
    async with running_platform(tmp_path, clock, base) as world:
        yield world


def policy_for(world: PlatformWorld, **identity: Any) -> AppraisalPolicy:
    root = (world.state / "root.der").read_bytes()
    return AppraisalPolicy(accept=(Alternative(tee=Tee.SIMULATED, root=root, **identity),))


async def quote_of(agent: Agent) -> Any:
    reply = await agent.order("ask", QUOTE)
    assert (reply["reply"], reply["platform"]) == ("quote", "SIMULATED")
    return parse_evidence(base64.b64decode(reply["evidence"]))


async def raw_exchange(path: Path, *pieces: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(path)
    for piece in pieces:
        writer.write(piece)
    if pieces and writer.can_write_eof():
        writer.write_eof()
    async with asyncio.timeout(DEADLINE_S):
        data = await reader.read()
    writer.close()
    await writer.wait_closed()
    return data


def framed(message: object) -> bytes:
    body = json.dumps(message).encode()
    return len(body).to_bytes(4, "big") + body


class TestMemoryGroups:
    """Where an enclave's memory comes from is the host's business, and no part of what is measured."""

    async def test_it_is_entered_before_the_image_runs(self, world: PlatformWorld, tmp_path: Path) -> None:
        (tmp_path / "cgroup.procs").touch()
        plain = await world.launch()
        agent = await world.launch(memory_group=tmp_path)
        assert (tmp_path / "cgroup.procs").read_text() == str(agent.launched.pid)
        assert agent.launched.measurement == plain.launched.measurement

    async def test_one_that_is_not_there_launches_nothing(self, world: PlatformWorld, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot be launched"):
            await world.launch(memory_group=tmp_path / "none")


class TestQuotes:
    """A quote says what the platform measured of the process that asks."""

    async def test_carries_the_measurement_and_the_report_data(
        self, world: PlatformWorld, clock: SetClock
    ) -> None:
        agent = await world.launch()
        policy = policy_for(world, measurements=(agent.launched.measurement,))
        verified = verify_evidence(await quote_of(agent), policy, report_data=REPORT_DATA, now=clock.time)
        assert verified.measurement == agent.launched.measurement
        assert verified.is_simulated

    @pytest.mark.parametrize(("role", "product_id"), [("key-service", 1), ("model-server", 2)])
    async def test_names_the_role_as_the_product(
        self, world: PlatformWorld, clock: SetClock, role: Any, product_id: int
    ) -> None:
        agent = await world.launch(role)
        policy = policy_for(world, measurements=(agent.launched.measurement,))
        verified = verify_evidence(await quote_of(agent), policy, report_data=REPORT_DATA, now=clock.time)
        assert isinstance(verified.claims, SgxClaims)
        assert verified.claims.product_id == product_id

    async def test_a_changed_byte_is_another_measurement(
        self, world: PlatformWorld, clock: SetClock, tmp_path: Path
    ) -> None:
        honest = await world.launch()
        (tmp_path / "launch.py").write_bytes(AGENT + b"#")
        changed = await world.launch(package=tmp_path)
        assert changed.launched.measurement != honest.launched.measurement
        policy = policy_for(world, measurements=(honest.launched.measurement,))
        with pytest.raises(EvidenceRejectedError) as rejected:
            verify_evidence(await quote_of(changed), policy, report_data=REPORT_DATA, now=clock.time)
        assert [m.claim for m in rejected.value.mismatches] == ["measurement"]

    async def test_no_signer_vouches_for_a_changed_image(
        self, world: PlatformWorld, clock: SetClock, tmp_path: Path
    ) -> None:
        honest = await world.launch()
        (tmp_path / "launch.py").write_bytes(AGENT + b"#")
        changed = await world.launch(package=tmp_path)
        signer = signer_of(honest.launched.measurement).hex()
        policy = policy_for(world, signer=signer, product_id=2, min_svn=1)
        verify_evidence(await quote_of(honest), policy, report_data=REPORT_DATA, now=clock.time)
        with pytest.raises(EvidenceRejectedError):
            verify_evidence(await quote_of(changed), policy, report_data=REPORT_DATA, now=clock.time)

    @pytest.mark.parametrize("claim", ["measurement", "pid", "instance"])
    async def test_a_claim_of_the_process_is_refused(self, world: PlatformWorld, claim: str) -> None:
        agent = await world.launch()
        reply = await agent.order("ask", {**QUOTE, claim: "00" * 32})
        assert (reply["reply"], reply["remedy"]) == ("error", "fix-input")
        assert "unknown field" in reply["error"]

    @pytest.mark.parametrize("size", [0, 63, 65])
    async def test_report_data_of_another_length_is_refused(self, world: PlatformWorld, size: int) -> None:
        agent = await world.launch()
        reply = await agent.order("ask", {**QUOTE, "report_data": base64.b64encode(bytes(size)).decode()})
        assert reply["remedy"] == "fix-input"

    async def test_collateral_is_renewed_before_it_ages(self, world: PlatformWorld, clock: SetClock) -> None:
        agent = await world.launch()
        first = (await quote_of(agent)).collateral
        clock.time += timedelta(minutes=14)
        assert (await quote_of(agent)).collateral == first
        clock.time += timedelta(minutes=2)
        assert (await quote_of(agent)).collateral != first

    async def test_collateral_is_never_of_the_future(self, world: PlatformWorld, clock: SetClock) -> None:
        agent = await world.launch()
        await quote_of(agent)
        clock.time -= timedelta(minutes=30)
        policy = policy_for(world, measurements=(agent.launched.measurement,))
        verified = verify_evidence(await quote_of(agent), policy, report_data=REPORT_DATA, now=clock.time)
        assert verified.collateral_issued_at == clock.time - COLLATERAL_LEAD

    async def test_a_verifier_whose_clock_is_a_little_behind_accepts_it(
        self, world: PlatformWorld, clock: SetClock
    ) -> None:
        agent = await world.launch()
        policy = policy_for(world, measurements=(agent.launched.measurement,))
        behind = clock.time - COLLATERAL_LEAD
        assert verify_evidence(await quote_of(agent), policy, report_data=REPORT_DATA, now=behind)


class TestTechnologies:
    """A platform simulates one technology, and the verifier of the real one verifies its evidence."""

    async def test_tdx(self, tmp_path: Path, clock: SetClock, base: Image) -> None:
        async with running_platform(tmp_path, clock, base, Technology.TDX) as world:
            agent = await world.launch()
            image = agent.launched.measurement
            evidence = await quote_of(agent)
            assert (evidence.tee, evidence.technology) == (Tee.SIMULATED, Technology.TDX)
            event = measured_event(IMAGE_REGISTER, b"S3ML image " + image.encode())
            policy = policy_for(
                world,
                simulates=Technology.TDX,
                measurements=(measurement_of_image(image, Technology.TDX),),
                events=(RuntimeEvent(register=IMAGE_REGISTER, digest=event.digest.hex()),),
            )
            verified = verify_evidence(evidence, policy, report_data=REPORT_DATA, now=clock.time)
            assert isinstance(verified.claims, TdxClaims)

    async def test_sev_snp(self, tmp_path: Path, clock: SetClock, base: Image) -> None:
        async with running_platform(tmp_path, clock, base, Technology.SEV_SNP) as world:
            agent = await world.launch()
            evidence = await quote_of(agent)
            assert (evidence.tee, evidence.technology) == (Tee.SIMULATED, Technology.SEV_SNP)
            measurement = measurement_of_image(agent.launched.measurement, Technology.SEV_SNP)
            policy = policy_for(world, simulates=Technology.SEV_SNP, measurements=(measurement,))
            verified = verify_evidence(evidence, policy, report_data=REPORT_DATA, now=clock.time)
            assert isinstance(verified.claims, SnpClaims)
            assert (await quote_of(agent)).certificates == evidence.certificates
            clock.time += timedelta(minutes=16)
            assert (await quote_of(agent)).certificates != evidence.certificates


class TestSealingKeys:
    """A sealing key belongs to a measurement on a platform."""

    async def test_the_same_code_gets_the_same_key_again(
        self, tmp_path: Path, clock: SetClock, base: Image
    ) -> None:
        keys = []
        for name in ("images", "images-before"):
            async with running_platform(tmp_path, clock, base) as world:
                keys.append(await (await world.launch()).order("ask", SEALING_KEY))
            (tmp_path / "images").rename(tmp_path / f"{name}-done")
        assert keys[0] == keys[1]

    async def test_other_code_gets_another(self, world: PlatformWorld, tmp_path: Path) -> None:
        (tmp_path / "launch.py").write_bytes(AGENT + b"#")
        agents = [await world.launch(), await world.launch(package=tmp_path)]
        keys = [(await agent.order("ask", SEALING_KEY))["key"] for agent in agents]
        assert keys[0] != keys[1]


class TestWhoIsAsking:
    """Only a live child that the platform launched gets an answer."""

    async def test_a_stranger_gets_none(self, world: PlatformWorld) -> None:
        attester = SimulatedAttester(world.state / "quote.sock")
        with pytest.raises(PlatformRefusedError, match=f"process {os.getpid()}: expected one .* launched"):
            await blocking(attester.quote, REPORT_DATA)
        with pytest.raises(PlatformRefusedError):
            await blocking(attester.sealing_key)

    @pytest.mark.parametrize("message", [QUOTE, SEALING_KEY])
    async def test_a_child_of_an_enclave_process_gets_none(
        self, world: PlatformWorld, message: dict[str, str]
    ) -> None:
        agent = await world.launch()
        reply = await agent.order("ask-from-child", message)
        assert (reply["reply"], reply["remedy"]) == ("error", "distrust")

    async def test_an_id_that_waited_before_the_process_was_known_proves_nothing(
        self, world: PlatformWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A stranger connects and ends, and the next child gets its process id."""
        monkeypatch.setattr(listener, "peer_pid", lambda _: os.getpid())
        seen: list[int | None] = []
        real = world.platform._instances.start

        def start(*arguments: Any, before_it_runs: Any, **rest: Any) -> instances.Instance:
            waiting = socket.socket(socket.AF_UNIX)
            waiting.connect(str(world.state / "quote.sock"))
            connections.append(waiting)

            def drain() -> None:
                monkeypatch.setattr(listener, "peer_pid", lambda _: newest_child())
                before_it_runs()
                seen.append(newest_child())

            return real(*arguments, before_it_runs=drain, **rest)

        connections: list[socket.socket] = []
        monkeypatch.setattr(world.platform._instances, "start", start)
        agent = await world.launch()
        assert seen == [agent.launched.pid]
        with connections[0] as waiting:
            waiting.sendall(framed(QUOTE))
            waiting.settimeout(10)
            reply = await blocking(waiting.recv, 65536)
        assert b'"distrust"' in reply

    async def test_a_process_that_ended_meanwhile_gets_none(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        instance = world.platform._instances.named(agent.launched.instance)
        await blocking(world.admin.stop, agent.launched.instance, 10.0)
        with pytest.raises(PlatformRefusedError):
            await world.platform._answer_enclave(instance, instance.pid, json.dumps(QUOTE).encode())
        assert world.platform._instances.alive(instance.pid) is None


def newest_child() -> int:
    """Return the id of the newest child of this process, as the kernel lists them."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return int(children[-1])


class TestLaunching:
    """A process gets its settings, a session of its own, and nothing else."""

    async def test_the_environment_is_the_settings(self, world: PlatformWorld) -> None:
        agent = await world.launch(settings={"S3ML_REPLICA": "r1"})
        environment = await agent.order("environment")
        foreign = {name for name in environment if not name.startswith("S3ML_")} - {"LD_PRELOAD", "LC_CTYPE"}
        assert foreign == set()
        assert environment["S3ML_REPLICA"] == "r1"
        assert environment["S3ML_SIMULATED_PLATFORM"] == str(world.state / "quote.sock")

    async def test_the_host_does_not_choose_where_a_process_finds_its_tee(self, world: PlatformWorld) -> None:
        """With a socket of the host's own, sealing keys would be the host's."""
        with pytest.raises(ConfigurationError, match="expected no S3ML_SIMULATED_PLATFORM"):
            await world.launch(settings={"S3ML_SIMULATED_PLATFORM": "/elsewhere/quote.sock"})

    @pytest.mark.parametrize(
        "name",
        ["PATH", "LD_PRELOAD", "PYTHONPATH", "S3ML_", "s3ml_x", "S3ML_x", "S3ML_X\n", "XS3ML_X", "S3ML_1"],
    )
    async def test_a_foreign_setting_is_refused(self, world: PlatformWorld, name: str) -> None:
        with pytest.raises(ConfigurationError, match="launch: "):
            await blocking(world.admin.launch, "model-server", {name: "x"}, world.log)

    async def test_a_value_with_nul_is_refused(self, world: PlatformWorld) -> None:
        with pytest.raises(ConfigurationError, match="launch: "):
            await blocking(world.admin.launch, "model-server", {"S3ML_X": "a\x00b"}, world.log)

    async def test_the_platform_refuses_what_its_client_would_not_send(self, world: PlatformWorld) -> None:
        message = {
            "ask": "launch",
            "role": "model-server",
            "settings": {"PATH": "/"},
            "log_path": str(world.log),
        }
        reply = await raw_exchange(world.state / "admin.sock", framed(message))
        assert b'"fix-input"' in reply
        assert await blocking(world.admin.list) == ()

    async def test_an_unknown_role_is_refused(self, world: PlatformWorld) -> None:
        with pytest.raises(ConfigurationError, match="launch: "):
            await blocking(world.admin.launch, "root", {}, world.log)

    async def test_the_session_is_its_own(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        pid, session, parent = await agent.order("session")
        assert pid == session == agent.launched.pid
        assert parent == os.getpid()

    async def test_output_is_appended_to_the_log(self, world: PlatformWorld) -> None:
        for text in ("first", "second"):
            await (await world.launch()).order("say", text)
        assert world.log.read_text() == "first\nsecond\n"
        assert stat.S_IMODE(world.log.stat().st_mode) == 0o600

    async def test_a_log_that_is_no_file_is_refused(self, world: PlatformWorld) -> None:
        os.mkfifo(world.state / "pipe")
        (world.state / "link").symlink_to(world.log)
        reader = os.open(world.state / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        try:
            for name in ("pipe", "link", "missing/log"):
                with pytest.raises(ConfigurationError, match="cannot be launched with the log"):
                    await blocking(world.admin.launch, "model-server", {}, world.state / name)
        finally:
            os.close(reader)
        assert await blocking(world.admin.list) == ()

    async def test_a_process_that_cannot_be_judged_does_not_run(
        self, world: PlatformWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """When the waiting connections cannot be taken, the new child is killed before it starts."""
        pids: list[int] = []

        def fail() -> None:
            pids.append(newest_child())
            raise ConfigurationError("no descriptors left")

        image = await blocking(world.platform._images.obtain, "model-server", None)
        with pytest.raises(ConfigurationError, match="no descriptors"):
            world.platform._instances.start(image, "model-server", {}, world.log, before_it_runs=fail)
        with pytest.raises(ProcessLookupError):
            os.kill(pids[0], 0)
        assert world.platform._instances.all() == ()

    async def test_there_are_not_endlessly_many(self, world: PlatformWorld) -> None:
        world.platform._instances._limit = 1
        first = await world.launch()
        with pytest.raises(ConfigurationError, match="expected at most 1 at a time"):
            await blocking(world.admin.launch, "model-server", {}, world.log)
        await blocking(world.admin.stop, first.launched.instance, 10.0)
        second = await world.launch()
        assert [entry.instance for entry in await blocking(world.admin.list)] == [second.launched.instance]


class TestEnding:
    """A process ends when it is told to, with all that it started, and its end is kept."""

    async def test_stop_asks_first(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        assert await blocking(world.admin.stop, agent.launched.instance, 10.0) == -15

    async def test_stop_kills_what_does_not_listen(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        await agent.order("ignore-sigterm")
        assert await blocking(world.admin.stop, agent.launched.instance, 0.05) == -9

    async def test_a_second_stop_says_the_same(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        statuses = [await blocking(world.admin.stop, agent.launched.instance, 10.0) for _ in range(2)]
        assert statuses == [-15, -15]

    async def test_an_unknown_instance_is_refused(self, world: PlatformWorld) -> None:
        with pytest.raises(ConfigurationError, match="expected one that was launched here, got 'x'"):
            await blocking(world.admin.stop, "x", 1.0)

    async def test_the_account_keeps_exit_statuses(self, world: PlatformWorld) -> None:
        ended, alive = await world.launch(), await world.launch("key-service")
        await ended.order("say", "x")
        ended.writer.write(b'["exit", 3]\n')
        await ended.ended()
        await world.platform._instances.named(ended.launched.instance).ended.wait()
        roles: tuple[Role, Role] = ("model-server", "key-service")
        expected = [
            InstanceStatus(
                instance=agent.launched.instance,
                pid=agent.launched.pid,
                role=role,
                measurement=agent.launched.measurement,
                exit_status=status,
            )
            for agent, role, status in zip((ended, alive), roles, (3, None), strict=True)
        ]
        assert list(await blocking(world.admin.list)) == expected

    async def test_what_it_started_ends_with_it(self, world: PlatformWorld) -> None:
        agent = await world.launch()
        orphan = os.pidfd_open(await agent.order("leave-child"))
        try:
            agent.writer.write(b'["exit", 0]\n')
            ended = asyncio.Event()
            asyncio.get_running_loop().add_reader(orphan, ended.set)
            async with asyncio.timeout(DEADLINE_S):
                await ended.wait()
        finally:
            asyncio.get_running_loop().remove_reader(orphan)
            os.close(orphan)

    async def test_the_end_of_the_platform_is_theirs(
        self, tmp_path: Path, clock: SetClock, base: Image
    ) -> None:
        async with running_platform(tmp_path, clock, base) as world:
            agents = [await world.launch() for _ in range(2)]
            world.stop.set()
            for agent in agents:
                await agent.ended()
            await world.finished
            assert {instance.exit_status for instance in world.platform._instances.all()} == {-15}
        assert not (tmp_path / "quote.sock").exists()
        assert not (tmp_path / "admin.sock").exists()

    async def test_a_peer_that_says_nothing_does_not_hold_the_end_up(self, world: PlatformWorld) -> None:
        _, writer = await asyncio.open_unix_connection(world.state / "quote.sock")
        world.platform._quotes.drain()
        assert len(world.platform._tasks) == 1
        world.stop.set()
        async with asyncio.timeout(DEADLINE_S):
            await world.finished
        writer.close()
        await writer.wait_closed()


class TestSockets:
    """Limits come first, and one peer never costs another."""

    async def test_are_their_owner_s(self, world: PlatformWorld) -> None:
        for name in ("admin.sock", "quote.sock"):
            assert stat.S_IMODE((world.state / name).stat().st_mode) == 0o600

    async def test_a_length_above_the_limit_is_refused_before_the_body(self, world: PlatformWorld) -> None:
        reply = await raw_exchange(world.state / "admin.sock", (262145).to_bytes(4, "big"))
        assert b"expected at most 262144 bytes, got 262145" in reply

    async def test_a_connection_that_ends_within_a_message_is_closed(self, world: PlatformWorld) -> None:
        assert await raw_exchange(world.state / "admin.sock", b"\x00\x00\x00\x09{") == b""

    async def test_a_peer_that_says_nothing_is_cut_off(
        self, world: PlatformWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(platform, "_PEER_DEADLINE_S", 0.05)
        assert await raw_exchange(world.state / "admin.sock") == b""

    async def test_one_connection_too_many_is_closed(
        self, world: PlatformWorld, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(platform, "_CONNECTIONS_LIMIT", 0)
        with pytest.raises(UnavailableError):
            await blocking(world.admin.list)

    async def test_a_path_that_is_too_long_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="expected at most 107 bytes"):
            listener.Listener(tmp_path / ("x" * 100), lambda *_: None)

    async def test_a_folder_that_is_missing_is_one_clear_line(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="cannot listen: No such file"):
            listener.Listener(tmp_path / "no" / "s", lambda *_: None)

    async def test_a_dead_one_is_replaced(self, tmp_path: Path, clock: SetClock, base: Image) -> None:
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "admin.sock"))
        async with running_platform(tmp_path, clock, base) as world:
            assert await blocking(world.admin.list) == ()

"""A whole key service on loopback, whose platform can be lost, and the desk of its owners and holders."""

import asyncio
import hashlib
import json
import sqlite3
import threading
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from s3ml.apps.cli.root import run
from s3ml.apps.governance.deployments import trust_from
from s3ml.attestation import Alternative, AppraisalPolicy, Tee, encode_policy
from s3ml.attestation.simulated.pki import SimulatedPKI
from s3ml.keyservice.server import create_app
from s3ml.primitives.secret import SecretBytes
from s3ml.primitives.signing import SigningKey
from tests.clocks import FakeClock
from tests.keyservice.keyservice_world import KEY_SERVICE_CODE, OWNER_KEYS, InProcessAttester, World

PREFIX = "/keyservice"
DEADLINE_S = 300


class Platform(InProcessAttester):
    """The key service's code on one of several machines."""

    def __init__(self, pki: SimulatedPKI, machine: int) -> None:
        super().__init__(KEY_SERVICE_CODE, pki, pki.collateral(datetime.now(UTC) - timedelta(hours=1)))
        self._machine = machine

    def sealing_key(self) -> SecretBytes:
        return SecretBytes(hashlib.sha256(b"machine %d" % self._machine).digest())


class Site:
    """Serves one replica, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        self._pki = SimulatedPKI.create(datetime.now(UTC) - timedelta(days=60))
        self._machine = 1
        self.world = World(
            folder / "log.sqlite",
            clock=FakeClock(datetime.now(UTC)),
            attester=Platform(self._pki, self._machine),
        )
        alternative = Alternative(
            tee=Tee.SIMULATED, root=self._pki.root_der, measurements=(KEY_SERVICE_CODE.hex(),)
        )
        self.policy = AppraisalPolicy(accept=(alternative,))
        asyncio.run(self.world.begin(key_service_policy=encode_policy(self.policy)))
        self.trust = folder / "trust.toml"
        trust_from(self.world.genesis, service_policies={}).write(self.trust)
        self.start()

    def start(self) -> None:
        """Serve what stands, on a free port."""
        inner = create_app(self.world.service, self.world.events)

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                scope = {**scope, "path": scope["path"].removeprefix(PREFIX)}
            await inner(scope, receive, send)

        config = uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="on")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run)
        self._thread.start()
        self._await_start()
        port = self._server.servers[0].sockets[0].getsockname()[1]
        self.gateway = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(DEADLINE_S)
        assert not self._thread.is_alive()
        self.world.stop()

    def lose_the_platform(self, damage: str | None = None) -> None:
        """Start the same code on another machine, over the same database, or over one with some `damage`."""
        self.stop()
        if damage is not None:
            with closing(sqlite3.connect(self.world.path)) as database, database:
                assert database.execute(damage).rowcount == 1
        self._machine += 1
        self.world.attester = Platform(self._pki, self._machine)
        self.world.start()
        self.start()

    def _await_start(self) -> None:
        waited = threading.Event()
        for _ in range(100 * DEADLINE_S):
            if self._server.started:
                return
            assert self._thread.is_alive()
            waited.wait(0.01)
        raise AssertionError("the server does not start")


class Desk:
    """Where people run commands, in a folder of their own."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], site: Site | None = None) -> None:
        self.folder = folder
        self.site = site
        self._capfd = capfd
        self.out = self.err = ""
        self.owners: list[str] = []
        for number, key in enumerate(OWNER_KEYS[:2]):
            self.owners.append(self.keep(f"owner{number}.key", key))

    def keep(self, name: str, key: SigningKey) -> str:
        (self.folder / name).write_bytes(key.to_pem())
        return self.path(name)

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def run(self, *words: str) -> int:
        """Run ``s3ml recovery`` with `words`."""
        status = run(["recovery", *words])
        self.out, self.err = self._capfd.readouterr()
        return status

    def online(self, command: str, *words: str) -> int:
        assert self.site is not None
        return self.run(command, "--gateway", self.site.gateway, *words)

    def trusting(self, command: str, *words: str) -> int:
        assert self.site is not None
        return self.run(command, "--trust", str(self.site.trust), *words)

    def both(self, command: str, *words: str) -> int:
        assert self.site is not None
        return self.online(command, "--trust", str(self.site.trust), *words)

    @property
    def json(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out)
        return found

    def holders(self, *names: str) -> list[str]:
        """Make a recovery key for each, and return the options that name them."""
        for name in names:
            assert self.run("keygen", self.path(name)) == 0
        return [word for name in names for word in ("--holder", f"{name}={self.path(name)}.agepub")]

    def sign(self, threshold: int, *names: str) -> int:
        keys = [word for owner in self.owners for word in ("--key", owner)]
        return self.both("sign", "--threshold", str(threshold), *self.holders(*names), *keys)

    def identity(self, *names: str) -> list[str]:
        return [word for name in names for word in ("--identity", self.path(f"{name}.agekey"))]

"""Services behind a proxy, without a network: what a client would verify, and what services would answer."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import msgspec

from s3ml.client.credentials import Credentials
from s3ml.client.proxy.forwarding import Call, Proxy
from s3ml.client.proxy.keeping import TrustKeeper
from s3ml.keyservice.client import VerifiedService
from s3ml.keyservice.documents import AnonymousCallers, ModelSummary
from s3ml.wire.sealed import InnerResponse
from tests.client.world import DEPLOYMENT, POLICY, MovableClock

JSON = (("content-type", "application/json"),)


def reply(document: object, status: int = 200, *fields: tuple[str, str]) -> InnerResponse:
    return InnerResponse(status=status, fields=(*JSON, *fields), content=msgspec.json.encode(document))


@dataclass(frozen=True, kw_only=True)
class Forwarded:
    """A request that would have left, sealed."""

    service: str
    method: str
    path: str
    fields: tuple[tuple[str, str], ...]
    content: bytes
    credentials: Credentials | None
    timeout_s: float | None


@dataclass
class Services:
    """A client that verifies and forwards to these services; `models` may be changed, or failures set."""

    models: dict[str, tuple[str, ...]]
    clock: MovableClock = field(default_factory=MovableClock)
    lifetime_s: float = 600.0
    failures: dict[str, Exception] = field(default_factory=dict)
    trust_failures: dict[str, Exception] = field(default_factory=dict)
    answers: list[InnerResponse] = field(default_factory=list)
    forwarded: list[Forwarded] = field(default_factory=list)
    verified: list[str] = field(default_factory=list)
    handle: Callable[[Forwarded], InnerResponse] | None = None
    held: asyncio.Event | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    was_cancelled: asyncio.Event = field(default_factory=asyncio.Event)

    async def verify(self, service: str, *, timeout_s: float | None = None) -> VerifiedService:
        self.verified.append(service)
        if service in self.trust_failures:
            raise self.trust_failures[service]
        template: dict[str, Any] = {"policy": POLICY, "enclave": None, "steps": ()}
        return VerifiedService(
            service=service,
            deployment=DEPLOYMENT,
            models=tuple(
                ModelSummary(model=model, model_version="1", manifest_sha256="ee" * 32)
                for model in self.models[service]
            ),
            callers=(AnonymousCallers(),),
            key_configs=b"",
            expires_at=self.clock.now() + timedelta(seconds=self.lifetime_s),
            is_simulated=False,
            is_fork_protected=True,
            log_size=1,
            log_root=bytes(32),
            **template,
        )

    async def forward(
        self,
        service: str,
        *,
        method: str,
        path: str,
        fields: Sequence[tuple[str, str]] = (),
        content: bytes | memoryview = b"",
        credentials: Credentials | None = None,
        timeout_s: float | None = None,
    ) -> InnerResponse:
        sent = Forwarded(
            service=service,
            method=method,
            path=path,
            fields=tuple(fields),
            content=bytes(content),
            credentials=credentials,
            timeout_s=timeout_s,
        )
        self.forwarded.append(sent)
        self.arrived.set()
        if self.held is not None:
            try:
                await self.held.wait()
            except asyncio.CancelledError:
                self.was_cancelled.set()
                raise
        if service in self.failures:
            raise self.failures[service]
        if self.handle is not None:
            return self.handle(sent)
        return self.answers.pop(0) if self.answers else reply({"name": service, "path": path})


@dataclass(frozen=True)
class Desk:
    """A proxy that was started for services."""

    services: Services
    keeper: TrustKeeper
    proxy: Proxy

    async def ask(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Return the status and the document that a call is answered."""
        answer = await self.proxy.answer(Call(method=method, path=path, **options))
        return answer.response.status, msgspec.json.decode(answer.response.content)


async def started(services: Services) -> Desk:
    """Start a proxy for all services."""
    keeper = TrustKeeper(services, tuple(services.models), services.clock)
    await keeper.start()
    services.verified.clear()
    return Desk(services, keeper, Proxy(services, keeper))

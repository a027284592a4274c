"""The proxy's process: two servers on one event loop, trust that is renewed beside them, an orderly end.

SIGTERM or SIGINT: unready at once, no new connections, what is under way is finished. A second one ends it at
once.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc.aio

from s3ml.client import AsyncClient
from s3ml.client.proxy.forwarding import Proxy
from s3ml.client.proxy.intake import BODY_LIMIT_BYTES, Intake
from s3ml.client.proxy.keeping import TrustKeeper
from s3ml.client.proxy.metrics import ProxyMetrics
from s3ml.client.proxy.rest import RestApplication
from s3ml.client.proxy.rpc import RpcService
from s3ml.keyservice.client import VerifiedService
from s3ml.listening import DrainingServer, http_config, listen
from s3ml.primitives.clock import SystemClock
from s3ml.primitives.errors import ConfigurationError
from s3ml.primitives.units import KIB
from s3ml.wire.sealed import DEFAULT_LIMITS

# Each may hold a request of the largest size.
CALLS_LIMIT = 256
# For what is around the tensors of a message.
_FRAMING_BYTES = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxySettings:
    """How a proxy listens.

    Args:
        rest: For REST; port 0 takes any free one.
        grpc: For gRPC, likewise; None for none.
        is_local: Whether both are loopback.
        forwards_authorization: Whether a local client's own token is presented instead of the proxy's.
        drain_s: How long what is under way may take at the end.
    """

    rest: Address
    grpc: Address | None
    is_local: bool
    forwards_authorization: bool
    drain_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where a proxy listens, and what it verified.

    Args:
        rest: With the port that was taken.
        grpc: Likewise.
        verified: Of each service.
    """

    rest: Address
    grpc: Address | None
    verified: tuple[VerifiedService, ...]


async def serve(
    settings: ProxySettings,
    client: AsyncClient,
    services: Sequence[str],
    *,
    announce: Callable[[Listening], None],
) -> None:
    """Verify every service, then serve until SIGTERM or SIGINT.

    Args:
        settings: How to listen.
        client: The way out; used by this event loop alone.
        services: Whose models are served.
        announce: Told once, when requests are taken.

    Raises:
        ConfigurationError: an address is taken, or the trust file says nothing of a service.
        UntrustedPeerError: a check failed.
        UnavailableError: a service could not be verified in time.
    """
    with _listener(settings.rest, "--listen") as listener:
        if settings.grpc is not None and settings.grpc.port:
            _listener(settings.grpc, "--grpc").close()
        keeper = TrustKeeper(client, services, SystemClock())
        await keeper.start()
        await _Servers(settings, Proxy(client, keeper), keeper).run(listener, announce)


class _Servers:
    """Both servers, from their start to their end."""

    def __init__(self, settings: ProxySettings, proxy: Proxy, keeper: TrustKeeper) -> None:
        self._settings = settings
        self._proxy = proxy
        self._keeper = keeper
        self._ending = asyncio.Event()
        metrics = ProxyMetrics(keeper)
        forwards = settings.forwards_authorization
        application = RestApplication(
            proxy, metrics, intake=Intake(), is_local=settings.is_local, forwards_authorization=forwards
        )
        self._config = http_config(grace_s=settings.drain_s, lifespan="off", app=application)
        self._rpc = grpc.aio.server(
            options=(
                ("grpc.max_receive_message_length", BODY_LIMIT_BYTES + _FRAMING_BYTES),
                ("grpc.max_send_message_length", DEFAULT_LIMITS.max_response_bytes + _FRAMING_BYTES),
                ("grpc.so_reuseport", 0),
            ),
            maximum_concurrent_rpcs=CALLS_LIMIT,
        )
        service = RpcService(proxy, metrics, forwards_authorization=forwards)
        self._rpc.add_generic_rpc_handlers((service.handler(),))

    async def run(self, listener: socket.socket, announce: Callable[[Listening], None]) -> None:
        """Serve until a signal asks for the end."""
        address = self._bind_rpc()
        await self._rpc.start()
        host, port = listener.getsockname()[:2]
        rest = Address(host=host, port=port)
        server = DrainingServer(
            self._config,
            on_started=lambda: announce(Listening(rest=rest, grpc=address, verified=self._keeper.verified)),
            announce=self._drain,
            notice_s=0.0,  # Nobody spreads load over proxies.
        )
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(self._keeper.run())
            group.create_task(self._stop_rpc())
            await server.serve(sockets=[listener])
            if server.force_exit:
                await self._rpc.stop(None)
            self._ending.set()
            keeping.cancel()

    def _bind_rpc(self) -> Address | None:
        address = self._settings.grpc
        if address is None:
            return None
        try:
            port = self._rpc.add_insecure_port(str(address))
        except RuntimeError:
            raise ConfigurationError(f"--grpc: cannot listen on {address}") from None
        return Address(host=address.host, port=port)

    async def _stop_rpc(self) -> None:
        await self._ending.wait()
        await self._rpc.stop(self._settings.drain_s)

    def _drain(self) -> None:
        self._proxy.is_draining = True
        self._ending.set()


def _listener(address: Address, setting: str) -> socket.socket:
    return listen(address.host, address.port, setting=setting)

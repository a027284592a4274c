"""The picker as a service of Envoy's external processing, with the standard service of gRPC health beside it.

A stream is one request: its headers are answered with a destination, those of its response end it. A stream
that ends before that is a request that was given up. Headers only; one that sends anything else is refused.

Source: Envoy, `envoy.service.ext_proc.v3.ExternalProcessor`; gRPC, "Health checking protocol".
"""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health

from s3ml.listening import listen
from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.picker.messages import (
    MESSAGE_LIMIT_BYTES,
    Question,
    QuestionMalformedError,
    none_ready,
    noted,
    parse,
)
from s3ml.scheduling.picker.picking import Picked, Picker

SERVICE_NAME = "envoy.service.ext_proc.v3.ExternalProcessor"
LIVENESS, READINESS = "liveness", "readiness"
REQUESTS_LIMIT = 4096
"""At a time; the gateway has as many connections. Beyond, it goes on without a picker."""

_NONE_READY, _NOTED = none_ready(), noted()

Context = grpc.aio.ServicerContext[Any, Any]


class PickerServer:
    """Listens for a gateway.

    Args:
        picker: Decides.
        host: The address to listen on.
        port: The port; 0 lets the system choose.

    Raises:
        ConfigurationError: the address cannot be listened on.
    """

    def __init__(self, picker: Picker, *, host: str, port: int) -> None:
        self._picker = picker
        self._address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._server = grpc.aio.server(
            options=(("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES)),
            maximum_concurrent_rpcs=REQUESTS_LIMIT,
        )
        method: grpc.RpcMethodHandler[bytes, bytes] = grpc.stream_stream_rpc_method_handler(
            self._process, request_deserializer=None, response_serializer=None
        )
        handler = grpc.method_handlers_generic_handler(SERVICE_NAME, {"Process": method})
        self._server.add_generic_rpc_handlers((handler,))
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if port:  # gRPC would write lines of its own about a port that is taken.
            listen(host, port, setting="--picker").close()
        try:
            self.port = self._server.add_insecure_port(self._address)
        except RuntimeError:
            raise ConfigurationError(f"--picker: cannot listen on {self._address}") from None

    async def start(self) -> None:
        """Answer from now on; to be called once there is something to decide by."""
        for service in ("", LIVENESS, READINESS, SERVICE_NAME):
            await self._health.set(service, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def stop(self, *, grace_s: float = 1.0) -> None:
        """Say that nothing is served, and end once what is under way is, or after `grace_s`."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_s)

    async def _process(self, messages: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        stream = _Stream(self._picker)
        try:
            async for message in messages:
                yield stream.answer(message)
        except QuestionMalformedError as error:
            self._picker.refused()
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            stream.end()


class _Stream:
    """One request, from its headers to those of its response."""

    __slots__ = ("_is_asked", "_picked", "_picker")

    def __init__(self, picker: Picker) -> None:
        self._picker = picker
        self._picked: Picked | None = None
        self._is_asked = False

    def answer(self, message: bytes) -> bytes:
        """Return the answer to one message.

        Raises:
            QuestionMalformedError: it is none that a picker answers, or the second request of the stream.
        """
        found = parse(message)
        if isinstance(found, Question):
            if self._is_asked:
                raise QuestionMalformedError("picker: expected one request in a stream, got another")
            self._is_asked = True
            self._picked = self._picker.pick(found)
            return _NONE_READY if self._picked is None else self._picked.answer
        picked, self._picked = self._picked, None
        if picked is not None:
            self._picker.answered(picked, found)
        return _NOTED

    def end(self) -> None:
        """Count a request that got no answer."""
        if self._picked is not None:
            self._picker.given_up(self._picked)

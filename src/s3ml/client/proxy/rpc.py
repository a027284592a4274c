"""The protocol over gRPC: each call becomes one of the REST form, and its answer a message or a status.

A gRPC deadline is how long the call may take, and goes along as the parameter ``timeout``, so that a server
whose queue could not meet it says so at once.

Source: Open Inference Protocol, "gRPC"; gRPC, "Status codes".
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, Literal, NoReturn, TypeVar

import grpc
import grpc.aio
import msgspec

from s3ml.client.proxy.answers import Answer, of_error, rejection
from s3ml.client.proxy.documents import model_metadata, repository_index, server_metadata
from s3ml.client.proxy.forwarding import READY_PATH, Call, Proxy
from s3ml.client.proxy.intake import RefusedError, bearer_credentials
from s3ml.client.proxy.messages import decode_answer, encode_request, is_raw
from s3ml.client.proxy.metrics import ProxyMetrics
from s3ml.client.proxy.namespace import SERVICE_METADATA
from s3ml.client.proxy.protocol import oip_pb2
from s3ml.client.replies import error_line
from s3ml.primitives.errors import ConfigurationError, S3MLError
from s3ml.primitives.units import US_PER_S
from s3ml.wire.oip import INDEX_PATH, infer_path, metadata_path, repository_path
from s3ml.wire.sealed import AUTHORIZATION, InnerResponse

logger = logging.getLogger("s3ml.client.proxy")

PROTOCOL = "grpc"
SERVICE_NAME = "inference.GRPCInferenceService"
_OK = 200
_NOT_FOUND = 404
_NOT_READY = 503

_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    409: grpc.StatusCode.ABORTED,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    # Trust failed, or the deployment is not what the proxy was started for: trying again does not help.
    502: grpc.StatusCode.FAILED_PRECONDITION,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_REFUSALS = range(400, 500)

Context = grpc.aio.ServicerContext[Any, Any]
Reply = TypeVar("Reply")


def status_code(status: int) -> grpc.StatusCode:
    """Return the gRPC status for an HTTP one that is no success."""
    if status in _REFUSALS:
        return _CODES.get(status, grpc.StatusCode.INVALID_ARGUMENT)
    return _CODES.get(status, grpc.StatusCode.INTERNAL)


class RpcService:
    """Answers gRPC calls of local clients.

    Args:
        proxy: Answers what they ask.
        metrics: Counts.
        forwards_authorization: Whether a local client's own token is presented instead of the proxy's.
    """

    def __init__(self, proxy: Proxy, metrics: ProxyMetrics, *, forwards_authorization: bool = False) -> None:
        self._proxy = proxy
        self._metrics = metrics
        self._forwards_authorization = forwards_authorization

    def handler(self) -> grpc.GenericRpcHandler:
        """Return what a server of `grpc.aio` takes."""
        methods: dict[str, Callable[[Any, Context], Awaitable[Any]]] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
            "RepositoryModelLoad": self._model_load,
            "RepositoryModelUnload": self._model_unload,
        }
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                method,
                request_deserializer=getattr(oip_pb2, f"{name}Request").FromString,
                response_serializer=getattr(oip_pb2, f"{name}Response").SerializeToString,
            )
            for name, method in methods.items()
        }
        return grpc.method_handlers_generic_handler(SERVICE_NAME, handlers)

    async def _server_live(
        self, _: oip_pb2.ServerLiveRequest, context: Context
    ) -> oip_pb2.ServerLiveResponse:
        answer = await self._ask(context, "GET", "/v2/health/live")
        return await self._made(context, answer, lambda _: oip_pb2.ServerLiveResponse(live=True))

    async def _server_ready(
        self, _: oip_pb2.ServerReadyRequest, context: Context
    ) -> oip_pb2.ServerReadyResponse:
        answer = await self._ask(context, "GET", READY_PATH)
        if answer.response.status in (_OK, _NOT_READY):
            self._metrics.count(answer, PROTOCOL)
            return oip_pb2.ServerReadyResponse(ready=answer.response.status == _OK)
        return await self._refuse(context, answer)

    async def _model_ready(
        self, request: oip_pb2.ModelReadyRequest, context: Context
    ) -> oip_pb2.ModelReadyResponse:
        answer = await self._ask_model(context, "GET", request.name, request.version, suffix="/ready")
        if answer.response.status in (_OK, _NOT_FOUND):
            self._metrics.count(answer, PROTOCOL)
            return oip_pb2.ModelReadyResponse(ready=answer.response.status == _OK)
        return await self._refuse(context, answer)

    async def _server_metadata(
        self, _: oip_pb2.ServerMetadataRequest, context: Context
    ) -> oip_pb2.ServerMetadataResponse:
        return await self._made(context, await self._ask(context, "GET", "/v2"), server_metadata)

    async def _model_metadata(
        self, request: oip_pb2.ModelMetadataRequest, context: Context
    ) -> oip_pb2.ModelMetadataResponse:
        answer = await self._ask_model(context, "GET", request.name, request.version)
        return await self._made(context, answer, model_metadata)

    async def _model_infer(
        self, request: oip_pb2.ModelInferRequest, context: Context
    ) -> oip_pb2.ModelInferResponse:
        remaining_s = context.time_remaining()
        timeout_us = None if remaining_s is None else max(int(remaining_s * US_PER_S), 1)
        wants_raw = is_raw(request)
        try:
            path = infer_path(request.model_name, request.model_version or None)
        except ConfigurationError as error:
            return await self._refuse(context, rejection(404, str(error)))
        try:
            fields, content = encode_request(request, timeout_us=timeout_us)
        except S3MLError as error:
            return await self._refuse(context, of_error(error))
        answer = await self._ask(context, "POST", path, fields, content)
        return await self._made(context, answer, lambda inner: decode_answer(inner, wants_raw=wants_raw))

    async def _repository_index(
        self, request: oip_pb2.RepositoryIndexRequest, context: Context
    ) -> oip_pb2.RepositoryIndexResponse:
        content = msgspec.json.encode({"ready": request.ready})
        answer = await self._ask(context, "POST", INDEX_PATH, content=content)
        return await self._made(context, answer, repository_index)

    async def _model_load(
        self, request: oip_pb2.RepositoryModelLoadRequest, context: Context
    ) -> oip_pb2.RepositoryModelLoadResponse:
        model = request.model_name or request.repository_name
        answer = await self._ask_repository(context, model, "load")
        made = oip_pb2.RepositoryModelLoadResponse(model_name=model, is_loaded=True)
        return await self._made(context, answer, lambda _: made)

    async def _model_unload(
        self, request: oip_pb2.RepositoryModelUnloadRequest, context: Context
    ) -> oip_pb2.RepositoryModelUnloadResponse:
        model = request.model_name or request.repository_name
        answer = await self._ask_repository(context, model, "unload")
        made = oip_pb2.RepositoryModelUnloadResponse(model_name=model, is_unloaded=True)
        return await self._made(context, answer, lambda _: made)

    async def _ask_model(
        self, context: Context, method: str, model: str, version: str, *, suffix: str = ""
    ) -> Answer:
        try:
            path = metadata_path(model, version or None)
        except ConfigurationError as error:
            return rejection(404, str(error))
        return await self._ask(context, method, path + suffix)

    async def _ask_repository(
        self, context: Context, model: str, action: Literal["load", "unload"]
    ) -> Answer:
        try:
            path = repository_path(model, action)
        except ConfigurationError as error:
            return rejection(404, str(error))
        return await self._ask(context, "POST", path)

    async def _ask(
        self,
        context: Context,
        method: str,
        path: str,
        fields: tuple[tuple[str, str], ...] = (),
        content: bytes = b"",
    ) -> Answer:
        """Ask the proxy with what the call's metadata and deadline say."""
        metadata = {
            key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)
        }
        remaining_s = context.time_remaining()
        if remaining_s is not None and remaining_s <= 0:
            return rejection(504, "call: its deadline is over")
        try:
            authorization = metadata.get(AUTHORIZATION) if self._forwards_authorization else None
            credentials = bearer_credentials(authorization)
        except RefusedError as refused:
            return refused.answer
        return await self._proxy.answer(
            Call(
                method=method,
                path=path,
                service=metadata.get(SERVICE_METADATA),
                fields=fields,
                content=content,
                credentials=credentials,
                timeout_s=remaining_s,
            )
        )

    async def _made(self, context: Context, answer: Answer, make: Callable[[InnerResponse], Reply]) -> Reply:
        """Return the message that `make` makes of a good answer; end the call with a status otherwise."""
        if answer.response.status != _OK:
            return await self._refuse(context, answer)
        try:
            reply = make(answer.response)
        except S3MLError as error:
            return await self._refuse(context, of_error(error, answer.service))
        except Exception as error:  # noqa: BLE001 - the last line: no traceback leaves with an answer in it
            logger.error("fault: %s", type(error).__name__)  # noqa: TRY400 - see above
            return await self._refuse(context, of_error(S3MLError("proxy: internal error"), answer.service))
        self._metrics.count(answer, PROTOCOL)
        return reply

    async def _refuse(self, context: Context, answer: Answer) -> NoReturn:
        """End the call with the status and the line of an answer, and when to come back."""
        self._metrics.count(answer, PROTOCOL)
        retry_after = answer.response.field("retry-after")
        trailing = (("retry-after", retry_after),) if retry_after is not None else ()
        code = status_code(answer.response.status)
        await context.abort(code, error_line(answer.response.content), trailing)

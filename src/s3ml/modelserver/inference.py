"""The Open Inference Protocol inside the seal: routes, and a table from errors to statuses.

Nothing here knows of sealing; every request gets an `InnerResponse`, whatever happens.

Source: Open Inference Protocol v2, "HTTP/REST"; Triton's extensions for binary tensors and repositories.
"""

from collections.abc import Callable, Sequence
from functools import partial

import msgspec

import s3ml
from s3ml.modelserver.dispatch import BusyError, Dispatcher
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.execution import BulkWorker, DeadlineError
from s3ml.modelserver.models import LoadedModel, ModelSet
from s3ml.modelserver.repository_endpoints import RepositoryEndpoints
from s3ml.modelserver.runtimes import Array, Arrays, RuntimeRefusedError, TensorSpec
from s3ml.modelserver.timing import Timing
from s3ml.modelserver.validation import check_inputs, select_outputs
from s3ml.primitives.clock import Clock
from s3ml.primitives.units import KIB, US_PER_S
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    Endpoint,
    InferRequest,
    InferResponse,
    Limits,
    OIPError,
    Route,
    Tensor,
    bind_raw_input,
    decode_infer_request,
    encode_error,
    encode_index,
    encode_infer_response,
    parse_header_length,
)
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed import DEFAULT_LIMITS, InnerRequest, InnerResponse

SERVER_NAME = "s3ml"
EXTENSIONS = ("binary_tensor_data", "model_repository")
# From here on JSON is read and written on a thread. Measured: this much takes about 0.5 ms to read and 0.2 ms
# to write, handing it over 0.03 to 0.15 ms.
OFF_LOOP_JSON_BYTES = 64 * KIB
# About what a number takes as JSON text.
_JSON_BYTES_PER_ELEMENT = 12
TIMEOUT_PARAMETER = "timeout"
NOT_LOADED = ": released, but not loaded: the repository's index says why"
_JSON = (("content-type", "application/json"),)
# Generous, for the seal and the fields around the content.
_FRAMING_BYTES = 4 * KIB
_RETRY = (("retry-after", "1"),)


class Inference:
    """Answers opened requests.

    Args:
        models: Returns what is loaded at this moment.
        dispatcher: Where models compute.
        bulk: Where long JSON is read and written.
        repository: For what concerns the repository.
        limits: Of the content of a request.
        clock: For when a request passes each stage.
        log: For failures, which are logged by their kind alone.
        on_unknown: Called when a request names a model that is not here: perhaps it is new.
    """

    __slots__ = ("_bulk", "_clock", "_dispatcher", "_limits", "_log", "_models", "_on_unknown", "_repository")

    def __init__(
        self,
        models: Callable[[], ModelSet],
        *,
        dispatcher: Dispatcher,
        bulk: BulkWorker,
        repository: RepositoryEndpoints,
        limits: Limits,
        clock: Clock,
        log: EventLog,
        on_unknown: Callable[[], None],
    ) -> None:
        self._on_unknown = on_unknown
        self._models = models
        self._dispatcher = dispatcher
        self._bulk = bulk
        self._repository = repository
        self._limits = limits
        self._clock = clock
        self._log = log

    async def answer(self, route: Route, request: InnerRequest, timing: Timing) -> InnerResponse:
        """Answer one request that was opened and let through; never raises for anything in it.

        Args:
            route: What is asked for.
            request: The request.
            timing: Where the stages that it passes are written down.
        """
        try:
            return await self._route(route, request, timing)
        except OIPError as error:
            return error_response(error.status, str(error))
        except RuntimeRefusedError as error:
            return error_response(400, str(error))
        except BusyError as error:
            retry = ("retry-after", str(error.retry_after_s))
            return error_response(503, "inference: the queue is too long; retry later", retry)
        except DeadlineError as error:
            return error_response(504, f"inference: {error}")
        except MemoryError:
            return error_response(503, "inference: too little memory; retry later", *_RETRY)
        except Exception as error:  # noqa: BLE001 - the last line: a fault becomes a sealed 500
            self._log.write("inference-fault", error=type(error).__name__)
            return error_response(500, "inference: internal error")

    async def _route(self, route: Route, request: InnerRequest, timing: Timing) -> InnerResponse:
        match route.endpoint:
            case Endpoint.INFER:
                timing.is_inference = True
                return await self._infer(self._find(route), request, timing)
            case Endpoint.REPOSITORY_INDEX:
                entries = self._repository.index(request.content)
                return InnerResponse(status=200, fields=_JSON, content=encode_index(entries))
            case Endpoint.MODEL_LOAD:
                await self._repository.load(route, request.content)
                return _json({})
            case Endpoint.MODEL_UNLOAD:
                await self._repository.unload(route, request.content)
                return _json({})
            case _:
                return _json(self._described(route))

    def _described(self, route: Route) -> dict[str, object]:
        """Return what the server, or a model, says of itself."""
        match route.endpoint:
            case Endpoint.LIVE:
                return {"live": True}
            case Endpoint.READY:
                return {"ready": len(self._models()) > 0}
            case Endpoint.MODEL_METADATA:
                return self._metadata(self._find(route))
            case Endpoint.MODEL_READY:
                return {"name": self._find(route).name, "ready": True}
            case _:
                return {"name": SERVER_NAME, "version": s3ml.__version__, "extensions": EXTENSIONS}

    def _find(self, route: Route) -> LoadedModel:
        name = route.model or ""
        model = self._models().find(name, route.version)
        if model is None:
            self._on_unknown()
            version = "" if route.version is None else f" version {route.version}"
            why = NOT_LOADED if self._repository.is_waiting(name, route.version) else ""
            raise OIPError(f"model {name}{version}: not served here{why}", status=404)
        return model

    def _metadata(self, model: LoadedModel) -> dict[str, object]:
        return {
            "name": model.name,
            "versions": self._models().versions(model.name),
            "platform": model.runtime.platform,
            "inputs": [_describe(spec) for spec in model.runtime.inputs],
            "outputs": [_describe(spec) for spec in model.runtime.outputs],
        }

    async def _infer(self, model: LoadedModel, request: InnerRequest, timing: Timing) -> InnerResponse:
        """Decode, wait, compute and encode.

        Raises:
            OIPError: the request is malformed, or does not fit the model.
            BusyError: it would have to wait for too long.
            DeadlineError: it was not computed in time.
            RuntimeRefusedError: the model cannot be evaluated on these inputs.
            MemoryError: there was too little memory.
        """
        header_length = parse_header_length(request.field(HEADER_LENGTH_FIELD))
        json_bytes = len(request.content) if header_length is None else header_length
        decode = partial(decode_for, model, request.content, header_length, limits=self._limits)
        asked, inputs, wanted = decode() if json_bytes < OFF_LOOP_JSON_BYTES else await self._bulk.run(decode)
        arrays = await self._dispatcher.compute(
            model, inputs, [spec.name for spec in wanted], timeout_s=_timeout_s(asked), timing=timing
        )
        encode = partial(encode_for, model, asked, wanted, arrays)
        if sum(array.size for array in arrays) * _JSON_BYTES_PER_ELEMENT < OFF_LOOP_JSON_BYTES or (
            asked.is_output_binary
        ):
            response = encode()
        else:
            response = await self._bulk.run(encode)
        timing.encoded_s = self._clock.monotonic_s()
        return response


def decode_for(
    model: LoadedModel, content: bytes | memoryview, header_length: int | None, *, limits: Limits
) -> tuple[InferRequest, Arrays, tuple[TensorSpec, ...]]:
    """Decode a request (from an untrusted peer) and hold it against a model.

    Returns:
        The request without its inputs, the inputs in the model's order, and the outputs that are asked for.

    Raises:
        OIPError: it is malformed, or does not fit the model; status 400.
    """
    decoded = decode_infer_request(
        content, header_length, limits=limits, model=model.name, version=model.version
    )
    runtime = model.runtime
    if decoded.raw is not None:
        if len(runtime.inputs) != 1:
            raise OIPError("raw request: expected a model with one input")
        only = runtime.inputs[0]
        decoded = bind_raw_input(decoded, name=only.name, datatype=only.datatype, shape=only.shape)
    check_inputs(decoded.inputs, runtime.inputs)
    arrays = {tensor.name: tensor.array for tensor in decoded.inputs}
    inputs = {spec.name: arrays[spec.name] for spec in runtime.inputs}
    return decoded, inputs, select_outputs(decoded, runtime.outputs)


def encode_for(
    model: LoadedModel, asked: InferRequest, wanted: Sequence[TensorSpec], arrays: Sequence[Array]
) -> InnerResponse:
    """Encode what a model computed, the way the request asked for it.

    Raises:
        OIPError: it is larger than any client takes; status 400.
    """
    outputs = tuple(
        Tensor(name=spec.name, datatype=spec.datatype, array=array)
        for spec, array in zip(wanted, arrays, strict=True)
    )
    response = InferResponse(model=model.name, version=model.version, id=asked.id, outputs=outputs)
    content, fields = encode_infer_response(response, asked)
    if padded_length(len(content) + _FRAMING_BYTES) > DEFAULT_LIMITS.max_response_bytes:
        limit = DEFAULT_LIMITS.max_response_bytes
        raise OIPError(f"outputs: expected at most {limit} sealed bytes, got more: send fewer rows")
    return InnerResponse(status=200, fields=fields, content=content)


def error_response(status: int, message: str, *fields: tuple[str, str]) -> InnerResponse:
    """Return the protocol's error document with a status."""
    content, described = encode_error(message)
    return InnerResponse(status=status, fields=(*described, *fields), content=content)


def _timeout_s(asked: InferRequest) -> float | None:
    """Return how long the sender waits, as the parameter ``timeout`` says in microseconds; 0 says nothing.

    Source: Triton's request parameter of that name.
    """
    timeout_us = asked.parameters.get(TIMEOUT_PARAMETER, 0)
    if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
        raise OIPError(f"{TIMEOUT_PARAMETER}: expected a whole number of microseconds")
    return timeout_us / US_PER_S or None


def _json(document: dict[str, object]) -> InnerResponse:
    return InnerResponse(status=200, fields=_JSON, content=msgspec.json.encode(document))


def _describe(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}

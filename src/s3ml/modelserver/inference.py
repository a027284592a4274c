"""The Open Inference Protocol inside the seal: routes, and a table from errors to statuses.

Nothing here knows of sealing; every request gets an `InnerResponse`, whatever happens.

Source: Open Inference Protocol v2, "HTTP/REST".
"""

from collections.abc import Callable

import msgspec

import s3ml
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.execution import DeadlineError, InferencePool
from s3ml.modelserver.repository import LoadedModel, ModelSet
from s3ml.modelserver.runtimes import RuntimeRefusedError, TensorSpec
from s3ml.modelserver.validation import check_inputs, select_outputs
from s3ml.primitives.units import KIB
from s3ml.wire.oip import (
    HEADER_LENGTH_FIELD,
    Endpoint,
    InferResponse,
    Limits,
    OIPError,
    Route,
    Tensor,
    bind_raw_input,
    decode_infer_request,
    encode_error,
    encode_infer_response,
    parse_header_length,
)
from s3ml.wire.padding import padded_length
from s3ml.wire.sealed import DEFAULT_LIMITS, InnerRequest, InnerResponse

SERVER_NAME = "s3ml"
EXTENSIONS = ("binary_tensor_data",)
_JSON = (("content-type", "application/json"),)
# Generous, for the seal and the fields around the content.
_FRAMING_BYTES = 4 * KIB
_RETRY = (("retry-after", "1"),)


class Inference:
    """Answers opened requests.

    Args:
        models: Returns what is loaded at this moment.
        pool: Where models compute.
        limits: Of the content of a request.
        log: For failures, which are logged by their kind alone.
        on_unknown: Called when a request names a model that is not here: perhaps it is new.
    """

    __slots__ = ("_limits", "_log", "_models", "_on_unknown", "_pool")

    def __init__(
        self,
        models: Callable[[], ModelSet],
        *,
        pool: InferencePool,
        limits: Limits,
        log: EventLog,
        on_unknown: Callable[[], None],
    ) -> None:
        self._on_unknown = on_unknown
        self._models = models
        self._pool = pool
        self._limits = limits
        self._log = log

    async def answer(self, route: Route, request: InnerRequest) -> InnerResponse:
        """Answer one request that was opened and let through; never raises for anything in it."""
        try:
            return await self._route(route, request)
        except OIPError as error:
            return error_response(error.status, str(error))
        except RuntimeRefusedError as error:
            return error_response(400, str(error))
        except DeadlineError as error:
            return error_response(504, f"inference: {error}")
        except MemoryError:
            return error_response(503, "inference: too little memory; retry later", *_RETRY)
        except Exception as error:  # noqa: BLE001 - the last line: a fault becomes a sealed 500
            self._log.write("inference-fault", error=type(error).__name__)
            return error_response(500, "inference: internal error")

    async def _route(self, route: Route, request: InnerRequest) -> InnerResponse:
        match route.endpoint:
            case Endpoint.SERVER_METADATA:
                return _json({"name": SERVER_NAME, "version": s3ml.__version__, "extensions": EXTENSIONS})
            case Endpoint.LIVE:
                return _json({"live": True})
            case Endpoint.READY:
                return _json({"ready": len(self._models()) > 0})
            case Endpoint.MODEL_METADATA:
                return _json(self._metadata(self._find(route)))
            case Endpoint.MODEL_READY:
                return _json({"name": self._find(route).name, "ready": True})
            case Endpoint.INFER:
                return await self._pool.run(infer, self._find(route), request, self._limits)

    def _find(self, route: Route) -> LoadedModel:
        name = route.model or ""
        model = self._models().find(name, route.version)
        if model is None:
            self._on_unknown()
            version = "" if route.version is None else f" version {route.version}"
            raise OIPError(f"model {name}{version}: not served here", status=404)
        return model

    def _metadata(self, model: LoadedModel) -> dict[str, object]:
        return {
            "name": model.name,
            "versions": self._models().versions(model.name),
            "platform": model.runtime.platform,
            "inputs": [_describe(spec) for spec in model.runtime.inputs],
            "outputs": [_describe(spec) for spec in model.runtime.outputs],
        }


def infer(model: LoadedModel, request: InnerRequest, limits: Limits) -> InnerResponse:
    """Decode, check, compute and encode; blocking.

    Raises:
        OIPError: the request is malformed, or does not fit the model.
        RuntimeRefusedError: the model cannot be evaluated on these inputs.
        MemoryError: there was too little memory.
    """
    header_length = parse_header_length(request.field(HEADER_LENGTH_FIELD))
    decoded = decode_infer_request(
        request.content, header_length, limits=limits, model=model.name, version=model.version
    )
    runtime = model.runtime
    if decoded.raw is not None:
        if len(runtime.inputs) != 1:
            raise OIPError("raw request: expected a model with one input")
        only = runtime.inputs[0]
        decoded = bind_raw_input(decoded, name=only.name, datatype=only.datatype, shape=only.shape)
    check_inputs(decoded.inputs, runtime.inputs)
    wanted = select_outputs(decoded, runtime.outputs)
    arrays = runtime.run(
        {tensor.name: tensor.array for tensor in decoded.inputs}, [spec.name for spec in wanted]
    )
    outputs = tuple(
        Tensor(name=spec.name, datatype=spec.datatype, array=array)
        for spec, array in zip(wanted, arrays, strict=True)
    )
    response = InferResponse(model=model.name, version=model.version, id=decoded.id, outputs=outputs)
    content, fields = encode_infer_response(response, decoded)
    if padded_length(len(content) + _FRAMING_BYTES) > DEFAULT_LIMITS.max_response_bytes:
        limit = DEFAULT_LIMITS.max_response_bytes
        raise OIPError(f"outputs: expected at most {limit} sealed bytes, got more: send fewer rows")
    return InnerResponse(status=200, fields=fields, content=content)


def error_response(status: int, message: str, *fields: tuple[str, str]) -> InnerResponse:
    """Return the protocol's error document with a status."""
    content, described = encode_error(message)
    return InnerResponse(status=status, fields=(*described, *fields), content=content)


def _json(document: dict[str, object]) -> InnerResponse:
    return InnerResponse(status=200, fields=_JSON, content=msgspec.json.encode(document))


def _describe(spec: TensorSpec) -> dict[str, object]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}

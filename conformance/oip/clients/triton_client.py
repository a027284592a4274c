"""`tritonclient` as its users call it: `triton_client {http|grpc} {sync|aio} URL`."""

import asyncio
import importlib
import inspect
import sys
from typing import Any

from conformance.oip.clients.loop import Given, given, serve, told

KIND, SHELL, URL = sys.argv[1:4]
library: Any = importlib.import_module(f"tritonclient.{KIND}" + (".aio" if SHELL == "aio" else ""))
DEADLINE_S = 50


class Calls:
    """The calls; the synchronous and the asynchronous client differ in what has to be awaited."""

    def __init__(self) -> None:
        self.client = library.InferenceServerClient(URL)

    async def live(self) -> Any:
        return await _value(self.client.is_server_live())

    async def ready(self) -> Any:
        return await _value(self.client.is_server_ready())

    async def model_ready(self, model: str, version: str = "") -> Any:
        return await _value(self.client.is_model_ready(model, version))

    async def server_metadata(self) -> Any:
        return _document(await _value(self.client.get_server_metadata()))

    async def model_metadata(self, model: str, version: str = "") -> Any:
        return _document(await _value(self.client.get_model_metadata(model, version)))

    async def infer(
        self,
        model: str,
        inputs: list[dict[str, Any]],
        *,
        version: str = "",
        outputs: list[str] | None = None,
        request_id: str = "",
        parameters: dict[str, Any] | None = None,
        binary_inputs: bool = True,
        binary_outputs: bool = True,
    ) -> Any:
        asked = None if outputs is None else [_output(name, binary_outputs) for name in outputs]
        result = await _value(
            self.client.infer(
                model,
                [_input(given(tensor), binary_inputs) for tensor in inputs],
                model_version=version,
                outputs=asked,
                request_id=request_id,
                parameters=parameters,
                **({"client_timeout": DEADLINE_S} if KIND == "grpc" else {}),
            )
        )
        return _result(result)

    async def index(self) -> Any:
        found = _document(await _value(self.client.get_model_repository_index()))
        return found["models"] if isinstance(found, dict) else found

    async def load(self, model: str) -> Any:
        await _value(self.client.load_model(model))

    async def unload(self, model: str) -> Any:
        await _value(self.client.unload_model(model))


async def _value(outcome: Any) -> Any:
    return await outcome if inspect.isawaitable(outcome) else outcome


def _document(message: Any) -> Any:
    if KIND == "http":
        return message
    from google.protobuf.json_format import MessageToDict  # noqa: PLC0415 - comes with gRPC alone

    return MessageToDict(message, preserving_proto_field_name=True)


def _input(tensor: Given, binary: bool) -> Any:  # noqa: FBT001
    made = library.InferInput(tensor.name, tensor.shape, tensor.datatype)
    if KIND == "http":
        made.set_data_from_numpy(tensor.array, binary_data=binary)
    else:
        made.set_data_from_numpy(tensor.array)
    return made


def _output(name: str, binary: bool) -> Any:  # noqa: FBT001
    if KIND == "http":
        return library.InferRequestedOutput(name, binary_data=binary)
    return library.InferRequestedOutput(name)


def _result(result: Any) -> dict[str, Any]:
    document = result.get_response() if KIND == "http" else _document(result.get_response())
    outputs = [
        told(entry["name"], entry["datatype"], result.as_numpy(entry["name"]))
        for entry in document["outputs"]
    ]
    named = {name: document.get(name) for name in ("model_name", "model_version", "id")}
    return {**named, "outputs": outputs}


def _describe(error: Exception) -> dict[str, Any]:
    status = getattr(error, "status", None)
    return {"status": None if status is None else str(status()), "message": str(error)}


async def _main() -> None:
    calls = Calls()
    names = ("live", "ready", "model_ready", "server_metadata", "model_metadata", "infer")
    repository = ("index", "load", "unload")
    await serve({name: getattr(calls, name) for name in (*names, *repository)}, _describe)
    await _value(calls.client.close())


asyncio.run(_main())

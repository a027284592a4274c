"""KServe's inference clients as their users call them: `kserve_client {rest|grpc} URL`."""

import asyncio
import logging
import sys
from typing import Any

from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    InferResponse,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput

from conformance.oip.clients.loop import Given, given, serve, told

KIND, URL = sys.argv[1:3]
logging.disable(logging.CRITICAL)  # a refused request is the suite's business, not a log's


class Calls:
    """The calls; without a version, because these clients name none."""

    def __init__(self) -> None:
        if KIND == "rest":
            config = RESTConfig(protocol="v2", timeout=50, retries=0)
            self.client: Any = InferenceRESTClient(config)
            self.where: tuple[str, ...] = (URL,)
        else:
            self.client = InferenceGRPCClient(URL, timeout=50, retries=0)
            self.where = ()

    async def live(self) -> Any:
        return await self.client.is_server_live(*self.where)

    async def ready(self) -> Any:
        return await self.client.is_server_ready(*self.where)

    async def model_ready(self, model: str) -> Any:
        return await self.client.is_model_ready(*self.where, model)

    async def infer(
        self,
        model: str,
        inputs: list[dict[str, Any]],
        outputs: list[str] | None = None,
        request_id: str = "",
        parameters: dict[str, Any] | None = None,
        *,
        binary_inputs: bool = True,
        binary_outputs: bool = True,
    ) -> Any:
        asked = {**(parameters or {}), **({"binary_data_output": True} if binary_outputs else {})}
        request = InferRequest(
            model_name=model,
            request_id=request_id or None,
            infer_inputs=[_input(given(tensor), binary_inputs) for tensor in inputs],
            parameters=asked if KIND == "rest" else parameters or {},
            request_outputs=None if outputs is None else [RequestedOutput(name) for name in outputs],
        )
        if KIND == "rest":
            return _result(await self.client.infer(*self.where, request, model_name=model))
        return _result(await self.client.infer(request))


def _input(tensor: Given, binary: bool) -> InferInput:  # noqa: FBT001
    made = InferInput(tensor.name, tensor.shape, tensor.datatype)
    made.set_data_from_numpy(tensor.array, binary_data=binary)
    return made


def _result(response: InferResponse) -> dict[str, Any]:
    outputs = [told(output.name, output.datatype, output.as_numpy()) for output in response.outputs]
    named = {"model_name": response.model_name, "model_version": response.model_version, "id": response.id}
    return {**named, "outputs": outputs}


def _describe(error: Exception) -> dict[str, Any]:
    response = getattr(error, "response", None)
    if response is not None:
        return {"status": str(response.status_code), "message": str(error)}
    code = getattr(error, "code", None)
    return {"status": None if code is None else str(code()), "message": str(error)}


async def _main() -> None:
    calls = Calls()
    names = ("live", "ready", "model_ready", "infer")
    await serve({name: getattr(calls, name) for name in names}, _describe)
    await calls.client.close()


asyncio.run(_main())

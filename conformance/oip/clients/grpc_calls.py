"""Messages of the protocol's gRPC, as they are described, to whatever answers: `grpc_calls HOST:PORT`.

The message types are those of `tritonclient`; nothing else of it is used, so that a message may be as wrong
as a test wants it.
"""

import asyncio
import sys
from typing import Any

import grpc
from google.protobuf.json_format import MessageToDict, ParseDict
from tritonclient.grpc import service_pb2, service_pb2_grpc

from conformance.oip.clients.loop import serve

DEADLINE_S = 50
_UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, grpc.aio.AioRpcError):
        return {"status": error.code().name, "message": error.details()}
    return {"status": None, "message": str(error)}


async def _main() -> None:
    async with grpc.aio.insecure_channel(sys.argv[1], options=_UNLIMITED) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)

        async def send(rpc: str, message: dict[str, Any]) -> dict[str, Any]:
            request = ParseDict(message, getattr(service_pb2, f"{rpc}Request")())
            reply = await getattr(stub, rpc)(request, timeout=DEADLINE_S)
            document: dict[str, Any] = MessageToDict(
                reply, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
            return document

        await serve({"send": send}, _describe)


asyncio.run(_main())

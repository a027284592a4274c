"""What travels over the platform's two sockets: one request and one reply per connection.

A message is its length (4 bytes, big-endian) and JSON. Lengths are checked before anything is read, unknown
fields reject. The kernel says who asks (SO_PEERCRED): no message names its sender, and none can claim a
measurement.

Source: docs/spec/simulated-platform.md.
"""

import socket
from typing import Annotated, Final, Literal, TypeVar

import msgspec

from s3ml.attestation.simulated.launch import SETTING_PATTERN
from s3ml.primitives.errors import ConfigurationError, S3MLError, UnavailableError, UntrustedPeerError
from s3ml.primitives.names import DIGEST_PATTERN
from s3ml.primitives.units import KIB, MIB

REQUEST_LIMIT_BYTES: Final = 256 * KIB
REPLY_LIMIT_BYTES: Final = MIB
LENGTH_BYTES: Final = 4

SettingName = Annotated[str, msgspec.Meta(pattern=SETTING_PATTERN)]
SettingValue = Annotated[str, msgspec.Meta(max_length=4096, pattern=r"\A[^\x00]*\Z")]
PathText = Annotated[str, msgspec.Meta(min_length=1, max_length=4096, pattern=r"\A/[^\x00]*\Z")]
InstanceName = Annotated[str, msgspec.Meta(max_length=80)]
Digest = Annotated[str, msgspec.Meta(pattern=DIGEST_PATTERN)]
Simulated = Literal["SIMULATED"]


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all messages have in common: frozen, named fields, nothing unknown."""


# What an enclave process asks.


class QuoteRequest(Message, frozen=True, kw_only=True, tag_field="ask", tag="quote"):
    """Asks for evidence of the asking process that carries `report_data`."""

    report_data: Annotated[bytes, msgspec.Meta(min_length=64, max_length=64)]


class SealingKeyRequest(Message, frozen=True, kw_only=True, tag_field="ask", tag="sealing-key"):
    """Asks for the key of the asking process's measurement on this platform."""


EnclaveRequest = QuoteRequest | SealingKeyRequest


# What the host asks.


class LaunchRequest(Message, frozen=True, kw_only=True, tag_field="ask", tag="launch"):
    """Asks for a process from an image of `role`, with `package` in place of the installed package.

    `memory_group` is a memory control group that it is in from before its first instruction.
    """

    role: Literal["key-service", "model-server"]
    settings: Annotated[dict[SettingName, SettingValue], msgspec.Meta(max_length=64)]
    log_path: PathText
    package: PathText | None = None
    memory_group: PathText | None = None


class StopRequest(Message, frozen=True, kw_only=True, tag_field="ask", tag="stop"):
    """Asks that an instance ends: SIGTERM, and SIGKILL after `grace_s`."""

    instance: InstanceName
    grace_s: Annotated[float, msgspec.Meta(ge=0, le=600)]


class ListRequest(Message, frozen=True, kw_only=True, tag_field="ask", tag="list"):
    """Asks for the account of all instances."""


HostRequest = LaunchRequest | StopRequest | ListRequest


# What the platform answers.


class QuoteReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="quote"):
    """Encoded evidence."""

    platform: Simulated = "SIMULATED"
    evidence: bytes


class SealingKeyReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="sealing-key"):
    """A sealing key."""

    platform: Simulated = "SIMULATED"
    key: Annotated[bytes, msgspec.Meta(min_length=32, max_length=32)]

    def __repr__(self) -> str:
        return "SealingKeyReply(redacted)"


class LaunchReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="launched"):
    """The process that was started, and what was measured of its image."""

    platform: Simulated = "SIMULATED"
    instance: InstanceName
    pid: int
    measurement: Digest


class StopReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="stopped"):
    """How the instance ended."""

    platform: Simulated = "SIMULATED"
    exit_status: int


class InstanceEntry(Message, frozen=True, kw_only=True):
    """One line of the account."""

    instance: InstanceName
    pid: int
    role: Literal["key-service", "model-server"]
    measurement: Digest
    exit_status: int | None = None


class ListReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="instances"):
    """The account of all instances, in the order of their start."""

    platform: Simulated = "SIMULATED"
    instances: tuple[InstanceEntry, ...]


class ErrorReply(Message, frozen=True, kw_only=True, tag_field="reply", tag="error"):
    """Why not: which of the three remedies helps, and one line for a person."""

    platform: Simulated = "SIMULATED"
    remedy: Literal["fix-input", "distrust", "retry"]
    error: str


Reply = QuoteReply | SealingKeyReply | LaunchReply | StopReply | ListReply | ErrorReply

_ENCLAVE_DECODER: msgspec.json.Decoder[EnclaveRequest] = msgspec.json.Decoder(EnclaveRequest)
_HOST_DECODER: msgspec.json.Decoder[HostRequest] = msgspec.json.Decoder(HostRequest)
_REPLY_DECODER: msgspec.json.Decoder[Reply] = msgspec.json.Decoder(Reply)
_R = TypeVar("_R", bound=Message)


class PlatformRefusedError(UntrustedPeerError):
    """The platform does not know the asking process as one that it launched."""


def frame(message: Message) -> bytes:
    """Return `message` with its length before it."""
    body = msgspec.json.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_length(head: bytes, *, limit_bytes: int) -> int:
    """Return the length that `head` (4 bytes) announces.

    Raises:
        ConfigurationError: It is above `limit_bytes`.
    """
    length = int.from_bytes(head, "big")
    if length > limit_bytes:
        raise ConfigurationError(f"platform message: expected at most {limit_bytes} bytes, got {length}")
    return length


def parse_enclave_request(body: bytes) -> EnclaveRequest:
    """Parse what came to ``quote.sock``, from an untrusted peer.

    Raises:
        ConfigurationError: No JSON, an unknown request or field, or a field out of bounds.
    """
    try:
        return _ENCLAVE_DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"platform request: {error}") from error


def parse_host_request(body: bytes) -> HostRequest:
    """Parse what came to ``admin.sock``, from an untrusted peer.

    Raises:
        ConfigurationError: No JSON, an unknown request or field, or a field out of bounds.
    """
    try:
        return _HOST_DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"platform request: {error}") from error


def error_reply(error: S3MLError) -> ErrorReply:
    """Return `error` as it travels."""
    match error:
        case UntrustedPeerError():
            return ErrorReply(remedy="distrust", error=str(error))
        case UnavailableError():
            return ErrorReply(remedy="retry", error=str(error))
        case _:
            return ErrorReply(remedy="fix-input", error=str(error))


def exchange(socket_path: str, request: Message, expected: type[_R], *, timeout_s: float) -> _R:
    """Ask the platform at `socket_path`, and return its answer; blocks up to `timeout_s` per step.

    Raises:
        ConfigurationError: The platform says that the request is wrong.
        PlatformRefusedError: The platform does not answer this process.
        UnavailableError: No platform answers there, or what answers speaks another protocol.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(socket_path)
            connection.sendall(frame(request))
            length = body_length(_read(connection, LENGTH_BYTES), limit_bytes=REPLY_LIMIT_BYTES)
            reply = _REPLY_DECODER.decode(_read(connection, length))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, ConfigurationError) as error:
        raise UnavailableError(f"simulated platform at {socket_path}: {error}") from error
    if isinstance(reply, expected):
        return reply
    if not isinstance(reply, ErrorReply):
        raise UnavailableError(f"simulated platform at {socket_path}: expected {expected.__name__}")
    match reply.remedy:
        case "distrust":
            raise PlatformRefusedError(reply.error)
        case "retry":
            raise UnavailableError(reply.error)
        case _:
            raise ConfigurationError(reply.error)


def _read(connection: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        piece = connection.recv(min(length - len(data), 64 * KIB))
        if not piece:
            raise ConnectionResetError("the connection ended within a message")
        data += piece
    return bytes(data)

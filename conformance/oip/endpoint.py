"""An endpoint of the Open Inference Protocol, and exact HTTP requests to it.

Requests are written byte for byte: no library repairs a path, adds a content type or parses leniently.
"""

import http.client
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

DEADLINE_S = 300.0
HEADER_LENGTH = "Inference-Header-Content-Length"
JSON_FIELDS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back; field names are in lower case."""

    status: int
    fields: Mapping[str, str]
    content: bytes

    @property
    def document(self) -> Any:
        """The JSON of the content: strict, so no NaN and no key twice.

        Raises:
            AssertionError: it is not JSON.
        """
        header_length = self.fields.get(HEADER_LENGTH.lower())
        text = self.content if header_length is None else self.content[: int(header_length)]
        try:
            return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
        except ValueError as error:
            raise AssertionError(f"expected JSON, got {text[:200]!r}") from error

    @property
    def error(self) -> str:
        """The line of the protocol's error document.

        Raises:
            AssertionError: it is none.
        """
        document = self.document
        assert isinstance(document.get("error"), str), document
        line: str = document["error"]
        return line

    @property
    def blobs(self) -> bytes:
        """What follows the JSON."""
        header_length = self.fields.get(HEADER_LENGTH.lower())
        return b"" if header_length is None else self.content[int(header_length) :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where a server answers.

    Args:
        url: Base URL, without `/v2`.
        grpc: `host:port`, or None where it has no gRPC.
        models: Names of models that are known to be there.
        is_lenient: Whether any 4xx will do where S3ML's table says 400.
    """

    url: str
    grpc: str | None = None
    models: tuple[str, ...] = ()
    is_lenient: bool = False

    @property
    def authority(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    def ask(
        self,
        method: str,
        path: str,
        content: bytes | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request; `path` begins with `/v2`, and only these fields are sent beside the framing."""
        parts = urlsplit(self.url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.netloc, timeout=DEADLINE_S)
        try:
            connection.putrequest(method, parts.path.rstrip("/") + path, skip_accept_encoding=True)
            for name, value in (fields or {}).items():
                connection.putheader(name, value)
            if content is not None:
                connection.putheader("Content-Length", str(len(content)))
            connection.endheaders(content)
            return read_reply(connection)
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        """Send a GET."""
        return self.ask("GET", path)

    def refused(self, model: str, document: object, blobs: bytes = b"", **how: Any) -> str:
        """Send an inference that is the caller's mistake, and return the line that says which; see `infer`.

        Raises:
            AssertionError: it is not refused as such.
        """
        reply = self.infer(model, document, blobs, **how)
        expected = range(400, 500) if self.is_lenient else (400,)
        assert reply.status in expected, (reply.status, reply.content[:300])
        return reply.content.decode() if self.is_lenient else reply.error

    def infer(
        self,
        model: str,
        document: object,
        blobs: bytes = b"",
        *,
        version: str | None = None,
        fields: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send an inference; with `blobs`, as the binary extension has it.

        Args:
            model: Its name.
            document: What becomes JSON, or bytes that are sent as they are.
            blobs: What follows the JSON.
            version: In the path; None names none.
            fields: Instead of those that fit.
        """
        head = document if isinstance(document, bytes) else json.dumps(document).encode()
        if fields is None:
            fields = {HEADER_LENGTH: str(len(head))} if blobs else JSON_FIELDS
        return self.ask("POST", infer_path(model, version), head + blobs, fields)


def infer_path(model: str, version: str | None = None) -> str:
    """Return the path of an inference."""
    return f"{model_path(model, version)}/infer"


def model_path(model: str, version: str | None = None) -> str:
    """Return the path of a model's metadata."""
    return f"/v2/models/{model}" + ("" if version is None else f"/versions/{version}")


def read_reply(connection: http.client.HTTPConnection) -> Reply:
    """Read the reply to the request that was sent."""
    response = connection.getresponse()
    fields = {name.lower(): value for name, value in response.getheaders()}
    return Reply(status=response.status, fields=fields, content=response.read())


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(f"a key twice in {[key for key, _ in pairs]}")
    return found


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")

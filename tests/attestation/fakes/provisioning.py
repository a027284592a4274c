"""A local server that plays Intel's PCS and PCCS and AMD's KDS. SIMULATED: a simulated vendor's documents.

It answers what the real services answer: paths, queries, header fields and encodings; then a test may give it
a fault. It never sleeps: what is slow waits for an event that the end of the test sets.

Source: Intel SGX PCS API, version 4; Intel PCCS design guide; AMD 57230, chapter 4.
"""

import contextlib
import hashlib
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import quote as percent_encode

from s3ml.attestation import Collateral
from s3ml.attestation.pem import encode_pem
from s3ml.attestation.simulated.snp_pki import SimulatedSnpPKI

Fault = Callable[["Exchange"], None]

ROOT_CRL_PATH = "/IntelSGXRootCA.der"
CHUNK = b"1000\r\n" + bytes(0x1000) + b"\r\n"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An honest answer; without an ETag, conditions are not understood."""

    body: bytes
    fields: Mapping[str, str] = field(default_factory=dict)
    status: int = 200


class Exchange:
    """One request in the hands of a fault, which writes bytes of its own."""

    def __init__(self, handler: BaseHTTPRequestHandler, honest: Answer, ended: threading.Event) -> None:
        self.path = handler.path
        self.honest = honest
        self.ended = ended
        self._handler = handler

    def write(self, data: bytes) -> None:
        self._handler.wfile.write(data)
        self._handler.wfile.flush()

    def answer(self, answer: Answer, *, length: int | None = None) -> None:
        head = [f"HTTP/1.1 {answer.status} told"]
        head += [f"{name}: {value}" for name, value in answer.fields.items()]
        head.append(f"Content-Length: {len(answer.body) if length is None else length}")
        head.append("Connection: close")
        self.write("\r\n".join(head).encode() + b"\r\n\r\n" + answer.body)


class ProvisioningServer:
    """A service on a free port of loopback; `answers` says what each path with its query gives."""

    def __init__(self, answers: Mapping[str, Answer], *, tls: ssl.SSLContext | None = None) -> None:
        self.answers = dict(answers)
        self.fault: Fault | None = None
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.arrived = threading.Semaphore(0)
        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def paths(self) -> list[str]:
        """Which paths were asked for, without their queries."""
        return [path.partition("?")[0] for path, _ in self.requests]

    def fields_of(self, path: str) -> dict[str, str]:
        """Return the header fields of the last request for `path`."""
        return next(fields for asked, fields in reversed(self.requests) if asked.startswith(path))

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _respond(self, handler: BaseHTTPRequestHandler) -> None:
        fields = {name.lower(): value for name, value in handler.headers.items()}
        self.requests.append((handler.path, fields))
        self.arrived.release()
        honest = self.answers.get(handler.path, Answer(status=404, body=b""))
        etag = honest.fields.get("ETag")
        if etag is not None and fields.get("if-none-match") == etag:
            honest = Answer(status=304, body=b"", fields={"ETag": etag})
        exchange = Exchange(handler, honest, self._ended)
        fault = self.fault or honestly
        with contextlib.suppress(OSError):  # whoever asked has gone
            fault(exchange)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        respond = self._respond

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.close_connection = True
                respond(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


@contextlib.contextmanager
def serving(
    answers: Mapping[str, Answer], *, tls: ssl.SSLContext | None = None
) -> Iterator[ProvisioningServer]:
    """Run a service for the length of a test."""
    server = ProvisioningServer(answers, tls=tls)
    try:
        yield server
    finally:
        server.close()


def pcs_answers(
    collateral: Collateral,
    *,
    fmspc: str,
    technology: str = "sgx",
    authority: str = "platform",
    update: str = "standard",
) -> dict[str, Answer]:
    """Return what Intel's PCS answers about a platform, with the root's list at a path of its own."""
    certification = f"/{technology}/certification/v4"
    return {
        f"{certification}/tcb?fmspc={fmspc}&update={update}": _tagged(
            signed_reply("tcbInfo", collateral.tcb_info, collateral.tcb_info_signature),
            {"TCB-Info-Issuer-Chain": percent_encode(collateral.tcb_info_issuer_chain)},
        ),
        f"{certification}/qe/identity?update={update}": _tagged(
            signed_reply("enclaveIdentity", collateral.qe_identity, collateral.qe_identity_signature),
            {"SGX-Enclave-Identity-Issuer-Chain": percent_encode(collateral.qe_identity_issuer_chain)},
        ),
        f"/sgx/certification/v4/pckcrl?ca={authority}&encoding=der": _tagged(
            collateral.pck_crl,
            {"SGX-PCK-CRL-Issuer-Chain": percent_encode(collateral.pck_crl_issuer_chain)},
        ),
        ROOT_CRL_PATH: _tagged(collateral.root_ca_crl, {}),
    }


def pccs_answers(collateral: Collateral, **what: str) -> dict[str, Answer]:
    """Return what a PCCS answers: the same without validators, revocation lists in hexadecimal digits."""
    answers = {
        path: Answer(body=answer.body, fields={k: v for k, v in answer.fields.items() if k != "ETag"})
        for path, answer in pcs_answers(collateral, fmspc=what.pop("fmspc"), **what).items()
    }
    answers.pop(ROOT_CRL_PATH)
    answers["/sgx/certification/v4/rootcacrl"] = Answer(body=collateral.root_ca_crl.hex().encode())
    return answers


def signed_reply(name: str, text: str, signature: bytes) -> bytes:
    return f'{{"{name}":{text},"signature":"{signature.hex()}"}}'.encode()


def honestly(exchange: Exchange) -> None:
    """Answer as the real service does."""
    exchange.answer(exchange.honest)


def after(event: threading.Event, fault: Fault) -> Fault:
    """Wait for `event`, which the test sets, and go on with `fault`."""

    def wait(exchange: Exchange) -> None:
        event.wait(120)
        fault(exchange)

    return wait


def status(code: int, **fields: str) -> Fault:
    """Answer with another status."""
    named = {name.replace("_", "-"): value for name, value in fields.items()}
    return lambda exchange: exchange.answer(Answer(status=code, body=b"no", fields=named))


def garbage(exchange: Exchange) -> None:
    """Answer with a body that is nothing."""
    exchange.answer(Answer(body=b"\x00garbage", fields=exchange.honest.fields))


def truncated(exchange: Exchange) -> None:
    """Promise the whole body and send half of it."""
    body = exchange.honest.body
    exchange.answer(Answer(body=body[: len(body) // 2], fields=exchange.honest.fields), length=len(body))


def oversized(exchange: Exchange) -> None:
    """Send a body of one byte more than any may have."""
    exchange.answer(Answer(body=bytes(64 * 1024 + 1), fields=exchange.honest.fields))


def endless(exchange: Exchange) -> None:
    """Send a body until nobody reads it."""
    exchange.write(b"HTTP/1.1 200 told\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not exchange.ended.is_set():
        exchange.write(CHUNK)


def silent(exchange: Exchange) -> None:
    """Answer nothing until the test ends."""
    exchange.ended.wait()


def trickling(exchange: Exchange) -> None:
    """Send header bytes for ever, each well before any socket's timeout."""
    exchange.write(b"HTTP/1.1 200 told\r\nX-Slow: ")
    while not exchange.ended.wait(0.01):
        exchange.write(b"x")


def stuck(exchange: Exchange) -> None:
    """Send half a body and no more until the test ends; without a length, nothing says that it is half."""
    exchange.write(b"HTTP/1.1 200 told\r\nConnection: close\r\n\r\n" + exchange.honest.body[:8])
    exchange.ended.wait()


def compressed(exchange: Exchange) -> None:
    """Send an encoding that nobody asked for."""
    fields = {**exchange.honest.fields, "Content-Encoding": "gzip"}
    exchange.answer(Answer(body=exchange.honest.body, fields=fields))


def redirect(location: str) -> Fault:
    """Send whoever asks elsewhere."""
    return lambda exchange: exchange.answer(Answer(status=302, body=b"", fields={"Location": location}))


def _tagged(body: bytes, fields: Mapping[str, str]) -> Answer:
    return Answer(body=body, fields={**fields, "ETag": f'"{hashlib.sha256(body).hexdigest()[:16]}"'})


def kds_answers(
    pki: SimulatedSnpPKI, now: datetime, *, product: str, leaf: str, key: str = "vcek"
) -> dict[str, Answer]:
    """Return what AMD's KDS answers about a processor.

    Args:
        pki: The vendor, and the processor.
        now: When the revocation list was issued.
        product: As paths have it.
        leaf: The last part of the leaf's path, with its query.
        key: As paths have it.
    """
    line = f"/{key}/v1/{product}"
    above = encode_pem(pki.authority.certificate) + encode_pem(pki.ark.certificate)
    return {
        f"{line}/cert_chain": Answer(body=above.encode()),
        f"{line}/crl": _tagged(pki.crl(now), {}),
        f"{line}/{leaf}": Answer(body=pki.endorsement.certificate),
    }

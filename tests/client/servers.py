"""The world behind a real port."""

import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from s3ml.client.steps import HTTPReply, HTTPRequest
from tests.client.world import World


class WorldServer:
    """Answers as `world` does; `raw` scripts what happens to the next connections instead."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.raw: list[Callable[[BaseHTTPRequestHandler], None]] = []
        self.headers: list[Mapping[str, str]] = []
        self.connections: set[Any] = set()
        self._handlers: set[BaseHTTPRequestHandler] = set()
        self._is_open = True
        serving = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self) -> None:
                super().setup()
                serving._handlers.add(self)

            def do_GET(self) -> None:
                write(self, HTTPReply(status=200))

            def do_POST(self) -> None:
                serving.serve(self)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            request_queue_size = 64
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Connections break here on purpose."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        self.url = f"http://{self.address}"

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["content-length"]))
        self.connections.add(handler.client_address)
        self.headers.append({name.lower(): value for name, value in handler.headers.items()})
        path = handler.path
        if self.raw:
            self.raw.pop(0)(handler)
            return
        request = HTTPRequest(
            method="POST",
            # The gateway takes the prefix away.
            path=f"/keyservice{path}" if path.startswith("/v1/") else path,
            content_type=handler.headers["content-type"],
            body=body,
            timeout_s=1,
            limit_bytes=1,
        )
        with self.world.lock:
            reply = self.world.answer(request)
        write(handler, reply)

    def close(self) -> None:
        """Stop at once, as a process that is killed: open connections break."""
        if not self._is_open:
            return
        self._is_open = False
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        for handler in self._handlers:
            shut(handler)


def shut(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection of `handler`."""
    handler.close_connection = True
    try:
        handler.connection.shutdown(2)
    except OSError:
        return


def write(handler: BaseHTTPRequestHandler, reply: HTTPReply) -> None:
    handler.send_response(reply.status)
    for name, value in reply.headers.items():
        handler.send_header(name, value)
    handler.send_header("content-length", str(len(reply.body)))
    handler.end_headers()
    handler.wfile.write(reply.body)

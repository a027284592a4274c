"""A model server in a process of its own, a file for a key service.

Called as `child_server.py PORT STORE FILE [DRAIN_S [COLLECTOR [NOTICE_S]]]`; an empty COLLECTOR is none.
"""

import socket
import sys
from pathlib import Path

import msgspec
import uvloop

from s3ml.keyservice.documents import Release
from s3ml.listening import DrainingServer, end_process
from s3ml.modelserver import Settings
from s3ml.modelserver.events import EventLog
from s3ml.modelserver.server import serve
from s3ml.primitives.clock import SystemClock


class FileReleases:
    """Plays the source of releases."""

    def fetch(self) -> Release:
        return msgspec.json.decode(Path(sys.argv[3]).read_bytes(), type=Release)


settings = Settings(
    host="127.0.0.1",
    port=int(sys.argv[1]),
    key_service=("http://127.0.0.1:1",),
    service="tumours",
    bundles=sys.argv[2],
    replica="child",
    otlp_endpoint=(sys.argv[5] or None) if len(sys.argv) > 5 else None,
    drain_s=int(sys.argv[4]) if len(sys.argv) > 4 else 35,
)
if len(sys.argv) > 6:  # a starved machine needs more than a second to see that this replica ends
    defaults = DrainingServer.__init__.__kwdefaults__ or {}
    DrainingServer.__init__.__kwdefaults__ = {**defaults, "notice_s": float(sys.argv[6])}
with socket.create_server((settings.host, settings.port)) as listener:
    log = EventLog(settings.replica)
    log.write("started", address="{}:{}".format(*listener.getsockname()))
    uvloop.run(serve(settings, FileReleases(), listener=listener, clock=SystemClock(), log=log))
end_process(0)

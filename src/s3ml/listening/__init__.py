"""How the processes of this project speak HTTP: one engine, one way to listen, one way to end."""

from s3ml.listening.connections import ConnectionGuard, ConnectionLimits
from s3ml.listening.draining import NOTICE_S, DrainingServer, end_process
from s3ml.listening.engine import http_config, listen

__all__ = [
    "NOTICE_S",
    "ConnectionGuard",
    "ConnectionLimits",
    "DrainingServer",
    "end_process",
    "http_config",
    "listen",
]

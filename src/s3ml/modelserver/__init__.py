"""The model server: one service per process, its models decrypted in memory, its requests sealed end to end.

Names are looked up when they are used, so that reading the settings loads no server.
"""

from typing import TYPE_CHECKING

from s3ml.modelserver.settings import Settings, parse_settings

if TYPE_CHECKING:
    from s3ml.modelserver.app import create_app
    from s3ml.modelserver.server import run

__all__ = ["Settings", "create_app", "parse_settings", "run"]


def __getattr__(name: str) -> object:
    """Import what is asked for."""
    if name == "create_app":
        from s3ml.modelserver import app  # noqa: PLC0415

        return app.create_app
    if name == "run":
        from s3ml.modelserver import server  # noqa: PLC0415

        return server.run
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""The model repository extension inside the seal: what there is, and loading and unloading by request.

Callers need a role of their own to load and unload. They act on the replica that answers, and only on what
the owners released: nothing of a request configures a model.

Source: Triton's model repository extension.
"""

import asyncio
from collections.abc import Callable
from functools import partial

import msgspec

from s3ml.modelserver.execution import run_detached
from s3ml.modelserver.memory import return_free_memory
from s3ml.modelserver.models import ModelSet
from s3ml.modelserver.repository import Repository, UnknownModelError
from s3ml.primitives.errors import ConfigurationError, S3MLError
from s3ml.wire.oip import IndexEntry, ModelState, OIPError, Route, decode_index_request

# What Triton's clients may send along that changes nothing here.
_HARMLESS_PARAMETERS = frozenset({"unload_dependents"})


class _Request(msgspec.Struct, frozen=True):
    parameters: dict[str, object] = {}


class RepositoryEndpoints:
    """Answers what concerns the repository.

    Args:
        repository: Of this process.
        changed: Told of every new set of models; on the event loop.
    """

    __slots__ = ("_changed", "_lock", "_repository")

    def __init__(self, repository: Repository, *, changed: Callable[[ModelSet], None]) -> None:
        self._repository = repository
        self._changed = changed
        self._lock = asyncio.Lock()

    def is_waiting(self, name: str, version: str | None) -> bool:
        """Tell whether the owners released what is asked for, and this replica has not loaded it."""
        return any(
            entry.name == name and version in (None, entry.version) and entry.state is not ModelState.READY
            for entry in self._repository.index()
        )

    def index(self, content: bytes | memoryview) -> tuple[IndexEntry, ...]:
        """Return the state of each version, or of those that are ready.

        Raises:
            OIPError: status 400; malformed.
        """
        is_ready_only = decode_index_request(content)
        entries = self._repository.index()
        return tuple(e for e in entries if e.state is ModelState.READY or not is_ready_only)

    async def load(self, route: Route, content: bytes | memoryview) -> None:
        """Load a model; returns when every released version of it is loaded.

        A caller that leaves does not stop it.

        Raises:
            OIPError: status 404 when the owners released no such model, 503 when there is no room for it or
                its bundle cannot be had, 400 for a malformed request or a model that cannot be used.
        """
        _check_parameters(content)
        async with self._lock:
            await self._change(partial(self._repository.load, route.model or ""))

    async def unload(self, route: Route, content: bytes | memoryview) -> None:
        """Unload a model; requests on it that are under way are still answered.

        Raises:
            OIPError: status 404 when the owners released no such model, 400 for a malformed request.
        """
        _check_parameters(content)
        async with self._lock:
            try:
                self._changed(self._repository.unload(route.model or ""))
            except UnknownModelError as error:
                raise OIPError(str(error), status=404) from error
            await run_detached(return_free_memory)

    async def _change(self, work: Callable[[], ModelSet]) -> None:
        try:
            await run_detached(work)
        except UnknownModelError as error:
            raise OIPError(str(error), status=404) from error
        except ConfigurationError as error:
            raise OIPError(str(error)) from error
        except S3MLError as error:
            raise OIPError(str(error), status=503) from error
        finally:
            self._changed(self._repository.models)


def _check_parameters(content: bytes | memoryview) -> None:
    """Refuse what would override a signed bundle.

    Raises:
        OIPError: status 400; no JSON object, or parameters that this server does not honour.
    """
    if not len(content):
        return
    try:
        parameters = msgspec.json.decode(content, type=_Request).parameters
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise OIPError(f"request: {error}") from error
    if refused := sorted(parameters.keys() - _HARMLESS_PARAMETERS):
        raise OIPError(
            f"parameters: expected none, got {refused[0][:40]!r}: "
            "a model comes from its signed bundle, as it is"
        )

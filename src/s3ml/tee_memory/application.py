"""A node agent over HTTP: readings for balancers, metrics for operators, health for whoever runs it.

Answers are made from what was sampled last; no request makes anything be read.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from s3ml.tee_memory.metrics import METRICS_TYPE, AgentMetrics
from s3ml.tee_memory.readings import READINGS_PATH
from s3ml.tee_memory.sampler import Sampler

# An agent whose newest reading is older than this many intervals, and a second, is not ready.
STALE_INTERVALS = 3
_STALE_S = 1.0
_UNCACHED = {"cache-control": "no-store"}


def create_app(sampler: Sampler) -> Starlette:
    """Return the ASGI application of an agent; it samples from its start to its end.

    Args:
        sampler: Stays its maker's to close.
    """
    edge = _Edge(sampler)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as tasks:
            sampling = tasks.create_task(edge.keep_sampling())
            yield
            sampling.cancel()

    return Starlette(routes=edge.routes(), lifespan=lifespan)


class _Edge:
    """The handlers of one application."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._metrics = AgentMetrics(sampler)

    def routes(self) -> list[Route]:
        """Return every route."""
        return [
            Route(READINGS_PATH, self._readings, methods=["GET"]),
            Route("/metrics", self._show_metrics, methods=["GET"]),
            Route("/livez", self._live, methods=["GET"]),
            Route("/readyz", self._ready, methods=["GET"]),
        ]

    async def keep_sampling(self) -> None:
        """Sample at instants an interval apart, whatever a sample takes; skip those that are past."""
        loop = asyncio.get_running_loop()
        next_s = loop.time()
        while True:
            self._sampler.sample()
            next_s = max(next_s + self._sampler.interval_s, loop.time())
            await asyncio.sleep(next_s - loop.time())

    async def _readings(self, _: Request) -> Response:
        return Response(self._sampler.readings().encode(), media_type="application/json", headers=_UNCACHED)

    async def _show_metrics(self, _: Request) -> Response:
        return Response(self._metrics.render(), headers={"content-type": METRICS_TYPE})

    async def _live(self, _: Request) -> Response:
        return JSONResponse({"is_live": True}, headers=_UNCACHED)

    async def _ready(self, _: Request) -> Response:
        age_s = self._sampler.age_s()
        is_ready = age_s is not None and age_s <= STALE_INTERVALS * self._sampler.interval_s + _STALE_S
        status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
        told = {"is_ready": is_ready, "age_s": age_s, "error": self._sampler.error}
        return JSONResponse(told, status, headers=_UNCACHED)

"""Where the seal's time goes: its four steps one after the other in one process, without a network.

Besides medians it gives minima: on a shared machine those come nearest to the cost of the work itself.
"""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from benchmarks.seal_load import Requests
from benchmarks.seal_server import SUITES, make_keys
from benchmarks.summaries import summary
from s3ml.modelserver.keys import SharedReplayGuard
from s3ml.wire.oip import InferRequest, InferResponse, Tensor, encode_infer_response
from s3ml.wire.sealed import InnerResponse, open_request, seal_request

SEED = 20260
SHAPES = {"tiny": (1, 30), "resnet50": (1, 3, 224, 224)}
PAUSE_S = 0.5e-3
STEPS = ("client seals", "server opens", "server seals", "client opens")

T = TypeVar("T")


def measure(count: int) -> dict[str, Any]:
    """Return for each size and suite what each step takes in microseconds, over `count` exchanges."""
    rows = {
        f"{model}, {suite}": _exchange(shape, SUITES[suite][0], count)
        for model, shape in SHAPES.items()
        for suite in SUITES
    }
    for model, shape in SHAPES.items():
        paused = _exchange(shape, SUITES["hybrid"][0], count // 4, pause_s=PAUSE_S)
        rows[f"{model}, hybrid, each step after {PAUSE_S * 1e3:g} ms of sleep"] = paused
    return rows


def _exchange(shape: tuple[int, ...], key_id: int, count: int, pause_s: float = 0.0) -> dict[str, Any]:
    requests = Requests.make("model", "x", list(shape), SEED)
    ring, replays = make_keys(), SharedReplayGuard()
    response, config = _response(), ring.keys[key_id].config
    durations: tuple[list[float], ...] = ([], [], [], [])
    for number in range(count):
        inner = requests.inner[number % len(requests.inner)]
        now = datetime.now(UTC)
        sealing, sealed = _timed(pause_s, partial(seal_request, config, inner, date=now))
        opening, opened = _timed(pause_s, partial(open_request, ring, sealed.body, now=now, replays=replays))
        answering, reply = _timed(pause_s, partial(opened.seal_response, response))
        reading, _ = _timed(pause_s, partial(sealed.open_response, reply))
        for step, took in zip(durations, (sealing, opening, answering, reading), strict=True):
            step.append(took)
    steps = {name: summary(values, 1) for name, values in zip(STEPS, durations, strict=True)}
    whole = [sum(parts) for parts in zip(*durations, strict=True)]
    return {"request_bytes": len(sealed.body), "reply_bytes": len(reply), **steps, "whole": summary(whole, 1)}


def _timed(pause_s: float, step: Callable[[], T]) -> tuple[float, T]:
    """Sleep, run `step`, and return its duration in microseconds with its result."""
    if pause_s:
        time.sleep(pause_s)
    began = time.perf_counter()
    result = step()
    return (time.perf_counter() - began) * 1e6, result


def _response() -> InnerResponse:
    """Return a reply of the size of a classifier's."""
    tensor = Tensor.from_array("probabilities", [[0.5, 0.5]])
    request = InferRequest(model="model", inputs=(), parameters={"binary_data_output": True})
    content, fields = encode_infer_response(
        InferResponse(model="model", version="1", outputs=(tensor,)), request
    )
    return InnerResponse(status=200, fields=fields, content=content)

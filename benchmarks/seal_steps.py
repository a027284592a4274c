"""Where the seal's time goes: its four steps one after the other in one process, without a network.

Besides medians it gives minima: on a shared machine those come nearest to the cost of the work itself.
"""

import time
from datetime import UTC, datetime
from typing import Any

from benchmarks.seal_load import Requests
from benchmarks.seal_server import SUITES, make_keys
from benchmarks.summaries import summary
from s3ml.modelserver.keys import SharedReplayGuard
from s3ml.wire.oip import InferRequest, InferResponse, Tensor, encode_infer_response
from s3ml.wire.sealed import InnerResponse, open_request, seal_request

SEED = 20260
SHAPES = {"tiny": (1, 30), "resnet50": (1, 3, 224, 224)}
STEPS = ("client seals", "server opens", "server seals", "client opens")


def measure(count: int) -> dict[str, Any]:
    """Return for each size and suite what each step takes in microseconds, over `count` exchanges."""
    return {
        f"{model}, {suite}": _exchange(shape, SUITES[suite][0], count)
        for model, shape in SHAPES.items()
        for suite in SUITES
    }


def _exchange(shape: tuple[int, ...], key_id: int, count: int) -> dict[str, Any]:
    requests = Requests.make("model", "x", list(shape), SEED)
    ring, replays = make_keys(), SharedReplayGuard()
    response, config = _response(), ring.keys[key_id].config
    durations: tuple[list[float], ...] = ([], [], [], [])
    for number in range(count):
        inner = requests.inner[number % len(requests.inner)]
        instants = [time.perf_counter()]
        sealed = seal_request(config, inner, date=datetime.now(UTC))
        instants.append(time.perf_counter())
        opened = open_request(ring, sealed.body, now=datetime.now(UTC), replays=replays)
        instants.append(time.perf_counter())
        reply = opened.seal_response(response)
        instants.append(time.perf_counter())
        sealed.open_response(reply)
        instants.append(time.perf_counter())
        for step, began, ended in zip(durations, instants, instants[1:], strict=False):
            step.append((ended - began) * 1e6)
    steps = {name: summary(values, 1) for name, values in zip(STEPS, durations, strict=True)}
    whole = [sum(parts) for parts in zip(*durations, strict=True)]
    return {"request_bytes": len(sealed.body), "reply_bytes": len(reply), **steps, "whole": summary(whole, 1)}


def _response() -> InnerResponse:
    """Return a reply of the size of a classifier's."""
    tensor = Tensor.from_array("probabilities", [[0.5, 0.5]])
    request = InferRequest(model="model", inputs=(), parameters={"binary_data_output": True})
    content, fields = encode_infer_response(
        InferResponse(model="model", version="1", outputs=(tensor,)), request
    )
    return InnerResponse(status=200, fields=fields, content=content)

"""The load of the emulated experiments: sealed requests in an open loop, in a process of its own.

Each request is sealed afresh, as a replay is refused, and each answer is opened, so that an error inside the
seal does not count as an answer. Both take about 0.1 ms, which is inside the latency.

Reads a plan (JSON, one line) from standard input, then a line for each run; says when each begins, and prints
a line about it.
"""

import gc
import json
import sys
from base64 import b64decode
from datetime import UTC, datetime
from random import Random
from typing import Any

import aiohttp
import uvloop

from benchmarks.scheduling import open_loop, ranker
from s3ml.primitives.errors import S3MLError
from s3ml.simulator.arrivals import Arrivals
from s3ml.wire.ohttp import REQUEST_MEDIA_TYPE, KeyConfig, parse_key_configs
from s3ml.wire.oip import infer_path
from s3ml.wire.sealed import InnerRequest, seal_request

_OK = 200
_REPLICA_FIELD = "s3ml-replica"
_FIELDS = {"content-type": REQUEST_MEDIA_TYPE}
# Answers that come later than this count as none.
GRACE_S = 10.0
# Said when the clock of a run starts.
BEGUN = "begun"


class RefusedError(OSError):
    """An answer that is none: an outer or inner status other than 200, or nothing that opens."""


class Caller:
    """Seals, sends, and opens what comes back.

    Args:
        session: What sends.
        url: Where sealed requests of the service go.
        config: What to seal to.
        inner_path: Where the request goes inside the seal.
    """

    def __init__(
        self, session: aiohttp.ClientSession, url: str, config: KeyConfig, *, inner_path: str
    ) -> None:
        self._session = session
        self._url = url
        self._config = config
        self._inner = [
            InnerRequest(method="POST", path=inner_path, fields=fields, content=content)
            for content, fields in ranker.encoded()
        ]

    async def send(self, number: int) -> str:
        """Send the request of that number; return the replica that answered.

        Raises:
            OSError: nobody answered, or with something other than a success.
            TimeoutError: nobody answered in time.
        """
        inner = self._inner[number % len(self._inner)]
        sealed = seal_request(self._config, inner, date=datetime.now(UTC))
        try:
            async with self._session.post(self._url, data=sealed.body, headers=_FIELDS) as reply:
                body = await reply.read()
                if reply.status != _OK:
                    raise RefusedError(f"expected status {_OK}, got {reply.status}")
        except aiohttp.ClientError as error:
            raise ConnectionError(type(error).__name__) from error
        try:
            response = sealed.open_response(body)
        except S3MLError as error:
            raise RefusedError("the answer does not open") from error
        if response.status != _OK:
            raise RefusedError(f"expected status {_OK} inside, got {response.status}")
        return response.field(_REPLICA_FIELD) or ""


async def _run(plan: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    arrivals = Arrivals(rate_per_s=told["rate_per_s"], cv=told["cv"])
    draw = Random(f"arrivals {told['seed']}")  # noqa: S311 - every policy gets the same
    times_s = list(arrivals.times(draw, told["lasting_s"]))
    config = parse_key_configs(b64decode(plan["key_configs"]))[0]
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
    timeout = aiohttp.ClientTimeout(total=told["lasting_s"] + GRACE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        caller = Caller(session, plan["url"], config, inner_path=infer_path(ranker.NAME))
        gc.collect()
        gc.disable()
        _say(BEGUN)
        sent = await open_loop.run(times_s, caller.send, grace_s=GRACE_S)
        gc.enable()
    return {
        "sent": [
            [round(one.intended_s, 5), round(one.sent_s - one.intended_s, 5), one.ended_s, one.server]
            for one in sent
        ],
        "failures": sorted({one.failure for one in sent if one.failure}),
    }


def main() -> None:
    """Read the plan, then make the load of each line."""
    plan = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        _say(json.dumps(uvloop.run(_run(plan, json.loads(line)))))


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

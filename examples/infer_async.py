"""Call a service a hundred times, sixteen at once: `python examples/infer_async.py [GATEWAY] [TRUST_FILE]`.

The service is verified once; what fails for the moment is sealed afresh and tried again.
"""

import asyncio
import sys
import time

import numpy as np

from s3ml.client import AsyncClient

REQUESTS = 100
AT_ONCE = 16


async def main(url: str, trust_file: str) -> None:
    """Make the calls and say how they went."""
    async with AsyncClient(url, trust=trust_file) as s3ml:
        model = (await s3ml.verify("tumours")).models[0].model
        (declared,) = (await s3ml.metadata("tumours", model))["inputs"]
        row = np.zeros((1, declared["shape"][1]), dtype=np.float32)

        start_s = time.perf_counter()
        inputs = ({declared["name"]: row} for _ in range(REQUESTS))
        async for result in s3ml.infer_many("tumours", inputs, concurrency=AT_ONCE, timeout_s=10.0):
            if result.index == 0:
                print(result)
        print(f"{REQUESTS / (time.perf_counter() - start_s):.0f} requests per second; {s3ml.statistics}")


if __name__ == "__main__":
    gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument
    asyncio.run(main(gateway, trust))

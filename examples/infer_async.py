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
    rows = np.zeros((1, 30), dtype=np.float32)
    turns = asyncio.Semaphore(AT_ONCE)

    async with AsyncClient(url, trust=trust_file) as s3ml:
        await s3ml.verify("tumours")

        async def call() -> None:
            async with turns:
                await s3ml.infer("tumours", {"x": rows}, timeout_s=10.0)

        start_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(REQUESTS):
                group.create_task(call())
        print(f"{REQUESTS / (time.perf_counter() - start_s):.0f} requests per second; {s3ml.statistics}")


if __name__ == "__main__":
    gateway = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8080"
    trust = sys.argv[2] if len(sys.argv) > 2 else "trust.toml"  # noqa: PLR2004 - the second argument
    asyncio.run(main(gateway, trust))

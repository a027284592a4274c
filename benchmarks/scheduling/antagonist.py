"""A process that sweeps memory: a neighbour in a node's EPC whose pages push out those of the servers.

It writes to each page of its memory in turn, over and over while it is on, and lets go of nothing while it is
off. What it takes of a processor is bounded: it rests in proportion to what a stretch of pages took.

Commands come by standard input, a line each: ``on SHARE`` (of a processor, above 0 to 1) and ``off``. It says
``ready`` once its memory is there and, after each command, what it was told; it ends with its input.
"""

import argparse
import mmap
import select
import sys
import time

from s3ml.primitives.units import MIB
from s3ml.tee_memory.reading import PAGE_BYTES

# Pages between two looks at the clock: one to ten milliseconds when each of them is a fault.
STRETCH = 256


def sweep(memory: mmap.mmap, begin: int, stretch: int = STRETCH) -> int:
    """Write to `stretch` pages from the page `begin` on; return the page after the last, 0 after the end."""
    pages = len(memory) // PAGE_BYTES
    end = min(begin + stretch, pages)
    for page in range(begin, end):
        offset = page * PAGE_BYTES
        memory[offset] = (memory[offset] + 1) & 0xFF
    return 0 if end == pages else end


def rest_s(took_s: float, share: float) -> float:
    """Return how long to rest after `took_s` of work, so that work is `share` of the time."""
    return took_s * (1 / share - 1)


def allocate(size_bytes: int) -> mmap.mmap:
    """Return memory of that size, filled with bytes that do not compress."""
    from random import Random  # noqa: PLC0415 - beside its only use

    memory = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    draw = Random(size_bytes)  # noqa: S311 - only to be incompressible
    for offset in range(0, size_bytes, MIB):
        memory[offset : min(offset + MIB, size_bytes)] = draw.randbytes(min(MIB, size_bytes - offset))
    return memory


def main() -> None:
    """Take commands until the input ends."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--bytes", type=int, required=True, help="how much memory to sweep")
    memory = allocate(parser.parse_args().bytes)
    _say("ready")
    share, page, pause_s = 0.0, 0, 0.0
    while True:
        if select.select([sys.stdin], [], [], pause_s if share else None)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            word, _, rest = line.strip().partition(" ")
            share = float(rest) if word == "on" else 0.0
            _say(line.strip())
        if share:
            began = time.thread_time()
            page = sweep(memory, page)
            pause_s = rest_s(time.thread_time() - began, share)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()

"""Explore every scenario for long: `python -m tests.keyservice.protocol.run [seconds] [scenario...]`."""

import sys

from tests.keyservice.protocol.explorer import explore
from tests.keyservice.protocol.scenarios import LONG


def main(arguments: list[str]) -> int:
    """Explore; return 1 where a rule is broken."""
    seconds = float(arguments[0]) if arguments else 120.0
    named = arguments[1:]
    is_broken = False
    for scenario in LONG:
        if not named or scenario.name in named:
            found = explore(scenario, seconds=seconds)
            sys.stdout.write(f"{found}\n")
            if found.broken is not None:
                sys.stdout.write(f"{found.broken}\n")
                is_broken = True
            sys.stdout.flush()
    return int(is_broken)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Soak for long: `python -m tests.soak SECONDS [FOLDER]` writes figures and a plot into FOLDER."""

import sys
from pathlib import Path

from tests.soak.report import figures, has_held, lines, write
from tests.soak.run import soak


def main(arguments: list[str]) -> int:
    """Soak, and say what came of it; the status is 1 when something did not hold."""
    if not arguments or not arguments[0].isdigit():
        sys.exit("usage: python -m tests.soak SECONDS [FOLDER]")
    found = figures(soak(float(arguments[0])))
    files = write(found, Path(arguments[1])) if len(arguments) > 1 else []
    sys.stdout.write("\n".join((*lines(found), *map(str, files))) + "\n")
    return 0 if has_held(found) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""Several servers side by side, from what `--facts` wrote: `python -m conformance.oip.compare NAME=FILE …`.

Prints a table in Markdown: for each rule (a class of tests) how many of its facts hold of each server.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

Counts = dict[str, tuple[int, int]]


def rule_of(test: str) -> str:
    """Return the rule that a test belongs to: its file's and its class's name."""
    file, _, rest = test.partition("::")
    return f"{Path(file).stem.removeprefix('test_oip_')} {rest.split('::')[0].removeprefix('Test')}"


def counts_of(path: Path) -> Counts:
    """Return for each rule how many facts hold, and of how many; what was skipped is no fact."""
    held: defaultdict[str, int] = defaultdict(int)
    tried: defaultdict[str, int] = defaultdict(int)
    for test, (outcome, _) in json.loads(path.read_text()).items():
        if outcome == "skipped" or "::Test" not in test:
            continue
        tried[rule_of(test)] += 1
        held[rule_of(test)] += outcome == "passed"
    return {rule: (held[rule], tried[rule]) for rule in tried}


def table(servers: dict[str, Counts]) -> str:
    """Return the table."""
    rules = sorted(set().union(*servers.values()))
    lines = ["| rule | " + " | ".join(servers) + " |", "|---" * (len(servers) + 1) + "|"]
    for rule in rules:
        cells = [_cell(counts.get(rule)) for counts in servers.values()]
        lines.append(f"| {rule} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(count: tuple[int, int] | None) -> str:
    return "" if count is None else f"{count[0]} of {count[1]}"


def main() -> None:
    """Print the table of the files that are named."""
    named = (argument.split("=", 1) for argument in sys.argv[1:])
    sys.stdout.write(table({name: counts_of(Path(path)) for name, path in named}) + "\n")


if __name__ == "__main__":
    main()

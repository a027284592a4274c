"""The tables of the comparison with other model servers."""

from collections.abc import Callable
from typing import Any

from benchmarks.serving.servers import S3ML

MODELS = ("tiny", "squeezenet", "resnet50")
NAMES = {
    S3ML: "S3ML, sealed",
    "mlserver": "MLServer",
    "mlserver-1-worker": "MLServer, 1 worker",
    "kserve": "KServe",
    "triton-python": "Triton, Python backend",
    "pytriton": "PyTriton",
}


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose first column is text and all others are numbers."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def spread(value: dict[str, Any], digits: int = 0) -> str:
    """Return a median with its quartiles."""
    low, high = value["quartiles"]
    return f"{value['median']:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def rates(document: dict[str, Any], model: str) -> str:
    """Return the table of throughput, a line for each point."""
    digits = 0 if model == "tiny" else 1
    return _by_point(document, model, lambda entry: spread(entry["requests_per_s"], digits))


def latencies(document: dict[str, Any], model: str) -> str:
    """Return the table of latency and processor time, a line for each point."""

    def cell(entry: dict[str, Any]) -> str:
        p50, p99, cpu = (entry[name]["median"] for name in ("p50_ms", "p99_ms", "cpu_ms"))
        digits = 2 if model == "tiny" else 0
        return f"{p50:,.{digits}f} / {p99:,.{digits}f}; {cpu:.{2 if model == 'tiny' else 1}f}"

    return _by_point(document, model, cell)


def memory(document: dict[str, Any]) -> str:
    """Return the table of memory after the load."""
    rows = [
        [
            f"{model}, {NAMES[name]}",
            *(f"{taken[kind]:,}" for kind in ("processes", "threads")),
            *(f"{taken[kind]:,.0f}" for kind in ("rss_mb", "pss_mb", "anonymous_mb")),
        ]
        for model, measured in document["models"].items()
        for name, taken in measured["servers"]["after"].items()
    ]
    return table(
        ["server", "processes", "threads", "resident, MB", "proportional, MB", "anonymous, MB"], rows
    )


def _by_point(document: dict[str, Any], model: str, cell: Callable[[dict[str, Any]], str]) -> str:
    entries = document["models"][model]["summary"]
    names = list(dict.fromkeys(entry["server"] for entry in entries))
    points: dict[tuple[str, str, int], dict[str, str]] = {}
    for entry in entries:
        point = (entry["encoding"], entry["way"], entry["concurrency"])
        points.setdefault(point, {})[entry["server"]] = cell(entry)
    names.sort(key=list(NAMES).index)
    rows = [
        [f"{encoding}, {way}, {concurrency}", *(found.get(name, "") for name in names)]
        for (encoding, way, concurrency), found in points.items()
    ]
    return table(["requests", *(NAMES[name] for name in names)], rows)


def _of_model(make: Callable[[dict[str, Any], str], str], model: str) -> Callable[[dict[str, Any]], str]:
    return lambda results: make(results["serving"], model)


def _memory_table(results: dict[str, Any]) -> str:
    return memory(results["serving"])


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "serving_memory": _memory_table,
    **{f"serving_rates_{model}": _of_model(rates, model) for model in MODELS},
    **{f"serving_latencies_{model}": _of_model(latencies, model) for model in MODELS},
}

"""The README's tables of the key service."""

from typing import Any


def spread(value: dict[str, Any], digits: int = 0) -> str:
    """Return a median with its quartiles."""
    low, high = value["quartiles"]
    return f"{value['median']:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a table whose first column holds words."""
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rates(results: dict[str, dict[str, Any]], what: str, ratios: str) -> str:
    """Return what a replica does on one core, beside its peers."""
    found = results["keyservice"]["rates"][what]
    rows = []
    for name, rate in found["rates"].items():
        ratio = found[ratios].get(name)
        rows.append(
            [
                name,
                spread(rate["per_busy_s"]),
                spread(rate["per_s"]),
                spread(ratio, 2) if ratio else "",
            ]
        )
    peer = {"to_dcap_qvl": "dcap-qvl alone", "to_echo": "the echo"}[ratios]
    return table(["", "per s of processor", "per s of this shared machine", f"ratio to {peer}"], rows)


def scale(results: dict[str, dict[str, Any]]) -> str:
    """Return how fast model servers that start at once have their keys."""
    found = results["keyservice"]["scale"]["scale_out"]
    rows = [
        [
            f"{found['model_servers']} model servers, {count} replica{'' if count == '1' else 's'}",
            spread(one["all_s"], 2),
            spread(one["p50_ms"]),
            spread(one["p99_ms"]),
        ]
        for count, one in found["replicas"].items()
    ]
    return table(["", "all have keys, s", "p50, ms", "p99, ms"], rows)


def replicas(results: dict[str, dict[str, Any]]) -> str:
    """Return what several replicas do together, and what each costs."""
    rows = [
        [
            count,
            spread(one["releases"]["per_busy_s"]),
            spread(one["releases"]["per_s"]),
            spread(one["bundles"]["per_busy_s"]),
            spread(one["bundles"]["per_s"]),
            f"{one['resident_mb']['median']:.0f}",
        ]
        for count, one in results["keyservice"]["scale"]["replicas"].items()
    ]
    head = [
        "replicas",
        "releases per s of processor",
        "releases/s, together",
        "bundles per s of processor",
        "bundles/s, together",
        "MB each",
    ]
    return table(head, rows)


def joins(results: dict[str, dict[str, Any]]) -> str:
    """Return how long a replica takes to join."""
    found = results["keyservice"]["scale"]["joins"]
    names = {
        "listening_s": "it listens: interpreter, imports, the log read",
        "joining_s": "from then until it serves: both attested, keys taken over, presence cosigned",
        "serving_s": "both",
    }
    return table(["a joining replica", "s"], [[text, spread(found[name], 2)] for name, text in names.items()])


def commits(results: dict[str, dict[str, Any]]) -> str:
    """Return the latency of commits."""
    found = results["keyservice"]["commits"]
    rows = [
        [name, spread(one["p50_ms"], 1), spread(one["p99_ms"], 1)]
        for name, one in found.items()
        if isinstance(one, dict)
    ]
    return table(["one commit", "p50, ms", "p99, ms"], rows)


def growth(results: dict[str, dict[str, Any]]) -> str:
    """Return what grows with the log."""
    rows = []
    for store, sizes in results["keyservice"]["growth"].items():
        if not isinstance(sizes, dict):
            continue
        for size, one in sizes.items():
            rows.append(
                [
                    f"{store}, {int(size):,}",
                    spread(one["read"]["busy_s"], 2),
                    spread(one["read"]["wall_s"], 2),
                    spread(one["start"]["busy_s"], 2),
                    spread(one["start"]["serving_s"], 2),
                    spread(one["join"]["serving_s"], 2) if "join" in one else "",
                    f"{one['resident_mb']['after load']:.0f}",
                    f"{one['releases_per_busy_s']['median']:,.0f}",
                    f"{one['bundles_per_busy_s']['median']:,.0f}",
                ]
            )
    head = [
        "store, entries",
        "read: s of processor",
        "read: s",
        "start: s of processor",
        "start to serving, s",
        "join to serving, s",
        "MB",
        "releases per s of processor",
        "bundles per s of processor",
    ]
    return table(head, rows)


TABLES = {
    "ks_releases": lambda results: rates(results, "releases", "to_dcap_qvl"),
    "ks_bundles": lambda results: rates(results, "bundles", "to_echo"),
    "ks_scale": scale,
    "ks_replicas": replicas,
    "ks_joins": joins,
    "ks_commits": commits,
    "ks_growth": growth,
}

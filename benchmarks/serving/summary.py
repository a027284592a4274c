"""From rows to medians, ratios and aims."""

from typing import Any

from benchmarks.serving.servers import S3ML
from benchmarks.summaries import summary

FIGURES = ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms", "other_cpu_share")
# "cpu" is compared beside what the aims name, because neighbours disturb it least.
COMPARED = ("requests_per_s", "p99_ms", "cpu_ms")
OUTRUN = ("mlserver", "kserve")
NEAR, NEAR_SHARE = "triton-python", 0.10


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per server and cell: medians with spread, and ratios to S3ML within each round."""
    groups: dict[tuple[str, str, int], dict[str, dict[int, dict[str, Any]]]] = {}
    for row in rows:
        place = (row["encoding"], row["way"], row["concurrency"])
        groups.setdefault(place, {}).setdefault(row["server"], {})[row["round"]] = row
    entries = []
    for (encoding, way, concurrency), by_server in groups.items():
        ours = by_server.get(S3ML, {})
        for server, by_round in by_server.items():
            own = list(by_round.values())
            entry: dict[str, Any] = {
                "encoding": encoding,
                "way": way,
                "concurrency": concurrency,
                "server": server,
                "requests": sum(row["requests"] for row in own),
            }
            for name in FIGURES:
                entry[name] = summary([row[name] for row in own], 4)
            if server != S3ML and ours:
                pairs = [(ours[number], row) for number, row in by_round.items() if number in ours]
                entry["s3ml_ratios"] = {
                    name: summary([a[name] / b[name] for a, b in pairs if b[name]] or [0.0], 4)
                    for name in COMPARED
                }
            entries.append(entry)
    return entries


def aims(models: dict[str, Any]) -> list[dict[str, Any]]:
    """Compare with the aims, all of which are ratios of S3ML, sealed, to a peer, plaintext."""
    found = []
    for model, measured in models.items():
        for entry in measured["summary"]:
            if "s3ml_ratios" not in entry:
                continue
            ratios, peer = entry["s3ml_ratios"], entry["server"]
            place = f"{model}, {entry['encoding']}, {entry['way']}, {entry['concurrency']} at a time"
            least = 1.0 if peer.startswith(OUTRUN) else 1 - NEAR_SHARE
            found.append(
                _at_least(f"throughput to {peer}: {place}", ratios["requests_per_s"]["median"], least)
            )
            if peer.startswith(OUTRUN):
                found.append(_below(f"p99 to {peer}: {place}", ratios["p99_ms"]["median"], 1.0))
        found += _memory_aims(model, measured["servers"]["after"])
    return found


def _memory_aims(model: str, servers: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    if S3ML not in servers:
        return []
    return [
        _below(f"{kind} to {peer}: {model}", round(servers[S3ML][kind] / taken[kind], 3), 1.0)
        for peer, taken in servers.items()
        if peer != S3ML
        for kind in ("rss_mb", "pss_mb", "anonymous_mb")
    ]


def _at_least(aim: str, got: float, least: float) -> dict[str, Any]:
    return {"aim": aim, "unit": "of the peer's", "at_least": least, "got": got, "is_met": got >= least}


def _below(aim: str, got: float, below: float) -> dict[str, Any]:
    return {"aim": aim, "unit": "of the peer's", "below": below, "got": got, "is_met": got < below}

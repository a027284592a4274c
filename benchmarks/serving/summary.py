"""From rows to medians, ratios and aims."""

from typing import Any

from benchmarks.serving.servers import S3ML
from benchmarks.summaries import summary

FIGURES = ("requests_per_s", "p50_ms", "p99_ms", "cpu_ms", "other_cpu_share")
# "cpu" is compared beside what the aims name, because neighbours disturb it least.
COMPARED = ("requests_per_s", "p99_ms", "cpu_ms")
OUTRUN = ("mlserver", "kserve")
NEAR_SHARE = 0.10
MEMORY = ("rss_mb", "pss_mb", "anonymous_mb")


def summarise(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one entry per server and cell: medians with spread, and ratios to S3ML within each round."""
    groups: dict[tuple[str, str, int], dict[str, dict[int, dict[str, Any]]]] = {}
    for row in rows:
        if not row["requests"]:
            continue
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
                "failures": sum(row["failures"] for row in own),
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
    """Compare with the aims: S3ML, sealed, to each peer, plaintext, at the point that is worst for S3ML."""
    found = []
    for model, measured in models.items():
        compared = [entry for entry in measured["summary"] if "s3ml_ratios" in entry]
        for peer in sorted({entry["server"] for entry in compared}):
            ratios = [entry["s3ml_ratios"] for entry in compared if entry["server"] == peer]
            rates = [ratio["requests_per_s"]["median"] for ratio in ratios]
            tails = [ratio["p99_ms"]["median"] for ratio in ratios]
            least = 1.0 if peer.startswith(OUTRUN) else 1 - NEAR_SHARE
            what = f"{model}, worst of {len(ratios)} points, to {peer}"
            found.append(_aim(f"requests/s: {what}", min(rates), at_least=least, met=min(rates) >= least))
            if peer.startswith(OUTRUN):
                found.append(_aim(f"p99: {what}", max(tails), below=1.0, met=max(tails) < 1))
            found += _memory(model, peer, measured["servers"]["after"])
    return found


def _memory(model: str, peer: str, servers: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    shares = {kind: servers[S3ML][kind] / servers[peer][kind] for kind in MEMORY}
    worst = max(shares.values())
    return [
        _aim(f"memory: {model}, worst of {len(MEMORY)} kinds, to {peer}", worst, below=1.0, met=worst < 1)
    ]


def _aim(aim: str, got: float, *, met: bool, **bound: float) -> dict[str, Any]:
    return {"aim": aim, "unit": "of the peer's", **bound, "got": round(got, 3), "is_met": met}

"""Write the tables of ``benchmarks/README.md`` from the results, so that both always agree.

Usage: ``python -m benchmarks.tables [--check]``.
"""

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

from benchmarks import keyservice_tables, model_memory, profiles
from benchmarks.scheduling import dataplane_views
from benchmarks.scheduling import tables as scheduling_tables
from benchmarks.serving import tables as serving_tables
from benchmarks.summaries import RESULTS

README = Path(__file__).parent / "README.md"
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_MODES = {"x25519": "X25519", "hybrid": "hybrid"}


def render(text: str, results: dict[str, dict[str, Any]]) -> str:
    """Return `text` with each marked table replaced by what `results` say."""

    def table(match: re.Match[str]) -> str:
        return f"{match[1]}{TABLES[match[2]](results)}\n{match[3]}"

    return _MARKED.sub(table, text)


def read_results(folder: Path = RESULTS) -> dict[str, dict[str, Any]]:
    """Return the results of the product's benchmarks by name."""
    return {
        name: json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))
        for name in (
            "attestation",
            "seal",
            "memory",
            "trust",
            "client",
            "keyservice_storage",
            "keyservice",
            "serving",
        )
    }


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _spread(value: dict[str, Any], digits: int = 2) -> str:
    """Return a median with its quartiles."""
    low, high = value["quartiles"]
    return f"{value['median']:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def _aims(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            aim["aim"],
            f"{bound(aim)} {aim['unit']}",
            f"{aim['got']} {aim['unit']}",
            "met" if aim["is_met"] else "**missed**",
        ]
        for document in results.values()
        for aim in document["aims"]
    ]
    return _table(["figure", "aim", "measured", ""], rows)


def bound(aim: dict[str, Any]) -> str:
    """Return what an aim asks for, without its unit."""
    return f"below {aim['below']}" if "below" in aim else f"at least {aim['at_least']:,}"


def _seal(results: dict[str, dict[str, Any]], model: str) -> str:
    entries = results["seal"]["models"][model]["summary"]
    plain = {entry["concurrency"]: entry for entry in entries if entry["mode"] == "unsealed"}
    rows = []
    for entry in entries:
        if entry["mode"] == "unsealed":
            continue
        beside = plain[entry["concurrency"]]
        rows.append(
            [
                f"{entry['concurrency']}, {_MODES[entry['mode']]}",
                f"{beside['p50_ms']['median']:.2f} / {entry['p50_ms']['median']:.2f}",
                f"{beside['p99_ms']['median']:.2f} / {entry['p99_ms']['median']:.2f}",
                f"{beside['requests_per_s']['median']:.0f} / {entry['requests_per_s']['median']:.0f}",
                _spread(entry["p50_ms_ratio"]),
                _spread(entry["p99_ms_ratio"]),
                _spread(entry["requests_per_s_ratio"]),
            ]
        )
    head = [
        "at a time, suite",
        "p50 ms",
        "p99 ms",
        "requests/s",
        "p50 ratio",
        "p99 ratio",
        "requests/s ratio",
    ]
    return _table(head, rows)


def _cost(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            f"{model}, {_MODES[entry['mode']]}",
            _spread(entry["cost_p50_ms"], 3),
            _spread(entry["cost_wire_p50_ms"], 3),
            f"{entry['client_seal_p50_us']['median']:.0f}",
            f"{entry['client_open_p50_us']['median']:.0f}",
        ]
        for model, measured in results["seal"]["models"].items()
        for entry in measured["summary"]
        if entry["mode"] != "unsealed" and entry["concurrency"] == 1
    ]
    head = ["model, suite", "whole, ms", "of it server and wire, ms", "client seals, µs", "client opens, µs"]
    return _table(head, rows)


def _steps(results: dict[str, dict[str, Any]]) -> str:
    names = ("client seals", "server opens", "server seals", "client opens", "whole")
    rows = [
        [
            name.replace("x25519", "X25519"),
            *(f"{steps[step]['median']:.0f} ({steps[step]['range'][0]:.0f})" for step in names),
        ]
        for name, steps in results["seal"]["steps"].items()
    ]
    return _table(["model, suite", *names], rows)


def _memory(results: dict[str, dict[str, Any]]) -> str:
    memory = results["memory"]
    rows = [
        [part, f"{added['rss_mb']:.1f}", f"{added['anonymous_mb']:.1f}"]
        for part, added in memory["parts"].items()
    ]
    last = memory["steps"][-1]
    rows.append(["**sum, one process**", f"**{last['rss_mb']:.1f}**", f"{last['anonymous_mb']:.1f}"])
    for name, reading in memory["replica"].items():
        rows.append(
            [f"**whole replica**, {name}", f"**{reading['rss_mb']:.1f}**", f"{reading['anonymous_mb']:.1f}"]
        )
    return _table(["part", "resident, MB", "of it own pages, MB"], rows)


def _starts(results: dict[str, dict[str, Any]]) -> str:
    names = {
        "launch_call_s": "the platform has measured the image and started the process",
        "listening_s": "it listens: interpreter and imports",
        "granted_s": "attested, keys received, model decrypted and opened",
        "ready_s": "the operator sees it ready",
    }
    starts = results["memory"]["starts"]
    return _table(
        ["until", "s after the operator's call"],
        [[text, _spread(starts[name], 3)] for name, text in names.items()],
    )


def _trust(results: dict[str, dict[str, Any]]) -> str:
    trust = results["trust"]
    rows = [
        ["verify, first of a process", f"{_spread(trust['cold_ms'])} ms"],
        ["verify, those after it", f"{_spread(trust['repeated_us'], 0)} µs"],
        ["fetch one through the gateway", f"{_spread(trust['fetch_ms'], 1)} ms"],
        ["import what verifies", f"{_spread(trust['import_ms'], 0)} ms"],
        ["key service: one release", f"{_spread(trust['releases']['one_at_a_time_us'], 0)} µs"],
        ["key service: releases, 16 at a time", f"{trust['releases']['per_s_at_16']:.0f} per s"],
    ]
    return _table(["", "median (quartiles)"], rows)


def _attestation(results: dict[str, dict[str, Any]]) -> str:
    rows = []
    for name, found in results["attestation"]["technologies"].items():
        ratio = found.get("cold_to_dcap_qvl")
        rows.append(
            [
                name,
                *(
                    f"{_spread(found[f'{state}_us'], 0)}, {found[f'{state}_per_s']:,}"
                    for state in ("cold", "platform", "cached")
                ),
                _spread(ratio) if ratio else "",
            ]
        )
    head = [
        "",
        "never seen: µs, per s",
        "known platform: µs, per s",
        "the same again: µs, per s",
        "cold ratio",
    ]
    return _table(head, rows)


def _verifier_memory(results: dict[str, dict[str, Any]]) -> str:
    names = {
        "interpreter": "interpreter",
        "imported": "`s3ml.attestation` imported",
        "verified": "100 verifications of each kind, with and without the cache",
    }
    memory = results["attestation"]["memory"]
    rows = [
        [text, f"{memory[name]['rss_mb']:.1f}", f"{memory[name]['anonymous_mb']:.1f}"]
        for name, text in names.items()
    ]
    return _table(["after", "resident, MB", "of it own pages, MB"], rows)


def _functions(results: dict[str, dict[str, Any]]) -> str:
    spent = sorted(results["trust"]["by_function_us"].items(), key=lambda item: -item[1])
    return _table(["function, all its calls", "µs"], [[f"`{name}`", f"{value:.0f}"] for name, value in spent])


def _storage(results: dict[str, dict[str, Any]]) -> str:
    writers = ("postgresql", "sqlite", "bare statement", "bare transaction")
    rows = []
    for length, found in results["keyservice_storage"]["lengths"].items():
        for batch, by_writer in found["batches"].items():
            cells = [f"{by_writer[name]['p50_ms']:.1f} / {by_writer[name]['p99_ms']:.1f}" for name in writers]
            rows.append([f"{int(length):,} entries, {batch} more", *cells])
    return _table(["log and append", "PostgreSQL", "SQLite", "one statement", "a transaction"], rows)


def _imports(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [f"`{name}`", _spread(took["cpu_ms"], 0), f"{took['to_numpy']:.2f}", f"{took['modules']}"]
        for name, took in results["client"]["imports"].items()
    ]
    return _table(["imported", "processor ms (quartiles)", "times numpy", "modules"], rows)


def _connections(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            f"`{name}`",
            f"{took['kept_per_s']['median']:.0f} per s",
            f"{took['opened_per_s']['median']:.0f} per s",
            f"{took['ratio']:.2f}",
        ]
        for name, took in results["client"]["connections"].items()
    ]
    return _table(["4 KB, one at a time", "connections kept", "one for each request", "ratio"], rows)


TABLES = {
    "imports": _imports,
    "connections": _connections,
    "storage": _storage,
    "aims": _aims,
    "seal_tiny": lambda results: _seal(results, "tiny"),
    "seal_resnet50": lambda results: _seal(results, "resnet50"),
    "cost": _cost,
    "steps": _steps,
    "memory": _memory,
    "starts": _starts,
    "trust": _trust,
    "functions": _functions,
    "attestation": _attestation,
    "verifier_memory": _verifier_memory,
    "profiles": lambda _: _table(profiles.HEAD, profiles.rows(profiles.read_profiles())),
    "model_memory": lambda _: _table(model_memory.HEAD, model_memory.table(model_memory.read())),
    "dataplane": lambda _: _table(dataplane_views.HEAD, dataplane_views.rows(dataplane_views.read())),
    **keyservice_tables.TABLES,
    **serving_tables.TABLES,
    **scheduling_tables.TABLES,
}


def main() -> int:
    """Rewrite the tables of the README; with ``--check``, only tell whether they are as measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where they differ")
    is_check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    rendered = render(text, read_results())
    if is_check and rendered != text:
        print(f"tables: {README} differs from the results: run python -m benchmarks.tables", file=sys.stderr)
        return 1
    if not is_check:
        README.write_text(rendered, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

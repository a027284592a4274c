"""The plot of the key service: what it does on one core against its aims, and what a long log costs."""

from pathlib import Path
from typing import Any

_BLUE, _TEAL, _GREY, _RED = "#2f5d9b", "#3a9d8f", "#9aa3ad", "#c0392b"
_STORES = {"SQLite": _TEAL, "PostgreSQL": _BLUE}
_NOTE = "SIMULATED: no SGX hardware was used"


def draw(pyplot: Any, document: dict[str, Any], path: Path) -> None:
    """Draw rates beside their aims, model servers that start at once, and starts by the log's length."""
    figure, panels = pyplot.subplots(1, 4, figsize=(12, 3.3), layout="constrained")
    releases, bundles = (document["rates"][what]["rates"] for what in ("releases", "bundles"))
    _draw_rates(panels[0], releases, "key releases", 400)
    _draw_rates(panels[1], bundles, "trust bundles", 2000)
    _draw_scale(panels[2], document["scale"]["scale_out"])
    _draw_growth(panels[3], document["growth"])
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(f"The key service. {_NOTE}. Other work shared the machine.", fontsize=10)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)


def _draw_rates(panel: Any, rates: dict[str, Any], title: str, aim: float) -> None:
    kinds = [kind for kind in rates if kind != "bare echo"]
    found = [rates[kind]["per_busy_s"] for kind in kinds]
    medians = [one["median"] for one in found]
    low = [one["median"] - one["quartiles"][0] for one in found]
    high = [one["quartiles"][1] - one["median"] for one in found]
    colours = [_GREY if "alone" in kind else _BLUE for kind in kinds]
    bars = panel.bar(range(len(kinds)), medians, 0.6, yerr=[low, high], color=colours, capsize=2)
    panel.bar_label(
        bars, [f"{value:,.0f}" for value in medians], fontsize=8, label_type="center", color="white"
    )
    panel.axhline(aim, color=_RED, linewidth=1, linestyle="--", label=f"aim {aim:,.0f}")
    names = [
        kind.replace("quotes take ", "quote\n+").replace(" more", "").replace(" ", "\n") for kind in kinds
    ]
    panel.set_xticks(range(len(kinds)), names, fontsize=7)
    panel.set(title=title, ylabel="per second of one core")
    panel.set_ylim(top=panel.get_ylim()[1] * 1.2)
    panel.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_scale(panel: Any, scale: dict[str, Any]) -> None:
    found = scale["replicas"]
    names = [f"{count} replica{'' if count == '1' else 's'}" for count in found]
    for offset, (key, label, unit) in enumerate((("p50_ms", "p50", 1e3), ("all_s", "all have keys", 1.0))):
        values = [one[key]["median"] / unit for one in found.values()]
        low = [(one[key]["median"] - one[key]["quartiles"][0]) / unit for one in found.values()]
        high = [(one[key]["quartiles"][1] - one[key]["median"]) / unit for one in found.values()]
        places = [place + (offset - 0.5) * 0.36 for place in range(len(names))]
        colour = (_TEAL, _BLUE)[offset]
        panel.bar(places, values, 0.34, yerr=[low, high], color=colour, label=label, capsize=2)
    panel.axhline(2, color=_RED, linewidth=1, linestyle="--", label="aim 2 s")
    panel.set_xticks(range(len(names)), names, fontsize=8)
    panel.set(title=f"{scale['model_servers']} model servers at once", ylabel="s")
    panel.set_ylim(top=3.0)
    panel.legend(frameon=False, fontsize=8, loc="upper left")


def _draw_growth(panel: Any, growth: dict[str, Any]) -> None:
    for store, colour in _STORES.items():
        sizes = growth[store]
        entries = [int(size) for size in sizes]
        for key, style, label in (
            ("serving_s", "-", "start to serving"),
            ("busy_s", ":", "its processor time"),
        ):
            values = [one["start"][key] for one in sizes.values()]
            panel.errorbar(
                entries,
                [value["median"] for value in values],
                yerr=[
                    [value["median"] - value["quartiles"][0] for value in values],
                    [value["quartiles"][1] - value["median"] for value in values],
                ],
                color=colour,
                linestyle=style,
                marker="o",
                markersize=3,
                capsize=2,
                label=f"{store}, {label}",
            )
    panel.set(title="a replica's start", xlabel="entries in the log", ylabel="s", xscale="log", yscale="log")
    panel.legend(frameon=False, fontsize=7)

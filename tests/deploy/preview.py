"""Draws deploy/observability/dashboard.json from a running Prometheus, as Grafana would, into a picture.

`python -m tests.deploy.preview http://127.0.0.1:9090 docs/dashboard.png`. For a look at the panels and a proof that
their queries find something, where there is no Grafana; Chromium draws.
"""

from __future__ import annotations

import html
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import sync_playwright

from tests.chromium import find_chromium

ROOT = Path(__file__).parents[2]
SPAN_S, STEP_S, RATE = 600, 4, "30s"
COLUMN_PX, ROW_PX, GAP_PX = 62, 34, 8
COLOURS = ("#73bf69", "#f2cc0c", "#8ab8ff", "#ff9830", "#f2495c", "#b877d9", "#5794f2", "#fade2a", "#96d98d", "#ffa6b0")
STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 12px Inter, sans-serif; position: relative }
div { position: absolute; box-sizing: border-box; overflow: hidden }
.panel { background: #181b1f; border: 1px solid #2a2d34; border-radius: 3px; padding: 6px 8px }
h2 { font-size: 14px; margin: 6px 4px } h3 { font-size: 12px; margin: 0 0 2px; font-weight: 600 }
p { margin: 0; line-height: 15px; color: #9fa7b3 } b { font-size: 24px; font-weight: 500 } i { font-style: normal }
"""
Series = list[tuple[str, list[tuple[float, float]]]]


def format_value(value: float, unit: str) -> str:
    """Return a number as a person reads it."""
    match unit:
        case "bytes":
            return f"{value / 2**20:,.0f} MiB"
        case "percentunit":
            return f"{value:.0%}"
        case "s":
            return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.3g} s"
        case "ops" | "reqps":
            return f"{value:.2f}/s"
    return f"{value:.3g}"


def ask(prometheus: httpx.Client, target: dict[str, Any], now: float) -> Series:
    """Return a legend and the points of each series of a query over the last minutes."""
    query = target["expr"].replace("$__rate_interval", RATE)
    answer = prometheus.get(
        "/api/v1/query_range", params={"query": query, "start": now - SPAN_S, "end": now, "step": STEP_S}
    ).raise_for_status()
    found: Series = []
    for series in answer.json()["data"]["result"]:
        legend = target["legendFormat"]
        for label, value in series["metric"].items():
            legend = legend.replace(f"{{{{{label}}}}}", value)
        points = [(float(at), float(value)) for at, value in series["values"] if value != "NaN"]
        if points:
            found.append((legend, points))
    return found


def drawing(series: Series, width: int, height: int, now: float) -> str:
    """Lines over time, from 0 to the largest value."""
    top = max((value for _, points in series for _, value in points), default=0.0) or 1.0
    lines = []
    for number, (_, points) in enumerate(series):
        places = " ".join(
            f"{(at - now + SPAN_S) / SPAN_S * width:.1f},{height - 2 - value / top * (height - 6):.1f}"
            for at, value in points
        )
        colour = COLOURS[number % len(COLOURS)]
        lines.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
    return f'<svg width="{width}" height="{height}">{"".join(lines)}</svg>'


def body_of(panel: dict[str, Any], series: Series, width: int, height: int, now: float) -> str:
    """Return the inside of a panel."""
    unit = panel["fieldConfig"]["defaults"]["unit"]
    latest = [(legend, points[-1][1]) for legend, points in series]
    if panel["type"] == "stat":
        return "".join(f"<p>{html.escape(legend)} <b>{format_value(value, unit)}</b></p>" for legend, value in latest)
    top = max((value for _, points in series for _, value in points), default=0.0)
    largest = sorted(enumerate(latest), key=lambda entry: -max(value for _, value in series[entry[0]][1]))
    legends = "  ".join(
        f'<i style="color:{COLOURS[number % len(COLOURS)]}">{html.escape(legend)} {format_value(value, unit)}</i>'
        for number, (legend, value) in largest[:8]
    )
    told = f"<p>up to {format_value(top, unit)}</p>" if series else "<p>nothing to show</p>"
    return told + drawing(series, width, height - 88, now) + f"<p>{legends}</p>"


def page(prometheus: httpx.Client, dashboard: dict[str, Any]) -> tuple[str, list[str]]:
    """Return the dashboard as a page, and the panels that have nothing to show."""
    now, parts, empty = time.time(), [f"<style>{STYLE}</style>"], []
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        width, height = at["w"] * COLUMN_PX - GAP_PX, at["h"] * ROW_PX - GAP_PX
        place = f"left:{at['x'] * COLUMN_PX}px;top:{at['y'] * ROW_PX}px;width:{width}px;height:{height}px"
        if panel["type"] == "row":
            parts.append(f'<div style="{place}"><h2>{panel["title"]}</h2></div>')
            continue
        series = [found for target in panel["targets"] for found in ask(prometheus, target, now)]
        if not series:
            empty.append(panel["title"])
        inside = body_of(panel, series, width - 18, height, now)
        parts.append(f'<div class="panel" style="{place}"><h3>{panel["title"]}</h3>{inside}</div>')
    return "".join(parts), empty


def main(address: str, picture: Path) -> None:
    """Draw it."""
    dashboard = json.loads((ROOT / "deploy/observability/dashboard.json").read_text())
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as prometheus:
        text, empty = page(prometheus, dashboard)
    lowest = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in dashboard["panels"])
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 24 * COLUMN_PX, "height": lowest * ROW_PX})
        tab.set_content(text)
        tab.screenshot(path=picture)
        browser.close()
    sys.stdout.write(f"Nothing to show: {', '.join(empty) or 'none, every panel has data'}.\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))

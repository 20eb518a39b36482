from collections.abc import Iterable, Sequence
from html import escape

from abn_fast.benchmark_report.against import Change
from abn_fast.benchmark_report.case import Comparison, Measured
from abn_fast.benchmark_report.plots import step_plot, sweep_plot, sweeps, throughput_plot
from abn_fast.benchmark_report.results import Results
from abn_fast.benchmark_report.table import spread

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; max-width: 76rem; margin: 2rem auto; padding: 0 1rem; color: #1c2330; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #d5dae3; }
table { border-collapse: collapse; font-size: 13px; } th, td { padding: .25rem .6rem; text-align: left; }
th { border-bottom: 1px solid #8a93a5; } td { border-bottom: 1px solid #edf0f5; vertical-align: top; }
.better { color: #0a7a3c; } .worse { color: #b3261e; font-weight: 600; } .unclear { color: #8a6d00; }
.plots { display: flex; flex-wrap: wrap; gap: 1rem; } .plots svg { max-width: 100%; height: auto; }
.warning { background: #fff4f3; border-left: 4px solid #b3261e; padding: .6rem 1rem; }
.good { background: #f1faf4; border-left: 4px solid #0a7a3c; padding: .6rem 1rem; }
"""


def page(results: Results, changes: Sequence[Change] | None = None, against: str = "") -> str:
    """The whole report as one HTML page that needs no other file: where peers win comes first.

    Args:
        results: of the run.
        changes: what got slower than in an earlier run; None where there was none to compare with.
        against: the earlier run's file.
    """
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"><title>abn_fast bench</title>',
        f"<style>{STYLE}</style></head><body>",
        f"<h1>abn_fast bench, {escape(results.date)}</h1>",
        *_about(results),
        *_lost(results),
        *_failures(results),
        *_changes(changes, against),
        *_plots(results),
        *_suites(results),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _about(results: Results) -> Iterable[str]:
    facts = {name: ", ".join(value) if isinstance(value, list) else value for name, value in results.machine.items()}
    versions = ", ".join(f"{name} {version}" for name, version in results.versions.items())
    yield f"<p><code>{escape(results.command)}</code></p>"
    yield _table([], [[name, str(value)] for name, value in {**facts, "versions": versions}.items()])
    yield (
        "<p>Ratio: the peer's median over ours, measured turn by turn in one process after both gave the same; above 1 "
        "ours is better. Quartiles stand in parentheses.</p>"
    )


def _lost(results: Results) -> Iterable[str]:
    lost = results.lost()
    compared = sum(each.peer is not None for each in results.comparisons)
    if not lost:
        yield f'<p class="good">No peer is better in any of {compared} comparisons.</p>'
        return
    yield f'<div class="warning"><h2>A peer is better in {len(lost)} of {compared} comparisons</h2>'
    yield _comparisons(lost)
    yield "</div>"


def _failures(results: Results) -> Iterable[str]:
    if results.failures:
        yield '<div class="warning"><h2>Tests that did not hold</h2>'
        yield _table(["test", "why"], [[each.test, each.line] for each in results.failures]) + "</div>"


def _changes(changes: Sequence[Change] | None, against: str) -> Iterable[str]:
    if changes is None:
        return
    yield f"<h2>Against {escape(against)}</h2>"
    if not changes:
        yield '<p class="good">Nothing got slower beyond the noise of both runs.</p>'
        return
    rows = [
        [
            str(each.now.case),
            each.now.ours.name,
            spread(each.before.ours, each.before.quantity),
            spread(each.now.ours, each.now.quantity),
            f"{each.factor:.2f}",
        ]
        for each in changes
    ]
    yield '<div class="warning">' + _table(["case", "way", "before", "now", "times, by the peer beside it"], rows)
    yield "</div>"


def _plots(results: Results) -> Iterable[str]:
    step = step_plot(results.comparisons)
    if step is not None:
        yield f'<h2>A training step</h2><div class="plots">{step}</div>'
    found = [each for suite in results.suites for each in sweeps(results.of(suite.name))]
    for along, title in (
        ("batch", "Latency and throughput against batch"),
        ("size", "Cost against resolution"),
        ("classes", "Cost against classes"),
        ("tasks", "Cost against tasks"),
        ("processes", "Cost against processes"),
    ):
        chosen = [each for each in found if each.along == along]
        plots = [plot for each in chosen for plot in (sweep_plot(each), throughput_plot(each)) if plot is not None]
        if plots:
            yield f'<h2>{title}</h2><div class="plots">{"".join(plots)}</div>'


def _suites(results: Results) -> Iterable[str]:
    for suite in results.suites:
        yield f"<h2>{escape(suite.name)}</h2>"
        counts = f"{suite.passed} held, {suite.failed} did not, {suite.skipped} left out"
        yield f"<p>{suite.seconds:.0f} s: {counts}.</p>"
        rows = results.of(suite.name)
        if rows:
            yield _comparisons(rows)


def _comparisons(rows: Iterable[Comparison]) -> str:
    head = ["case", "ours", "takes", "peer", "takes", "ratio", "wanted"]
    lines = [
        [
            str(each.case),
            *_cells(each.ours, each.quantity),
            *(_cells(each.peer, each.quantity) if each.peer else ("", "")),
            "" if each.ratio is None else f"{each.ratio:.2f}",
            "" if each.target is None else f"{each.target:g}",
        ]
        for each in rows
    ]
    return _table(head, lines, [_kind(each) for each in rows])


def _cells(measured: Measured, quantity: str) -> tuple[str, str]:
    text = spread(measured, quantity)
    return measured.name, f"grows with exponent {text}" if quantity == "exponent" else text


def _kind(each: Comparison) -> str:
    if each.peer is None:
        return ""
    return ("worse" if each.lost else "better") if each.clear else "unclear"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], kinds: Sequence[str] = ()) -> str:
    """Rows of cells; of a row with a kind, the ratio is in its colour."""
    first = f"<tr>{''.join(f'<th>{escape(cell)}</th>' for cell in head)}</tr>" if head else ""
    lines = [first]
    for index, row in enumerate(rows):
        kind = f' class="{kinds[index]}"' if kinds and kinds[index] else ""
        cells = [f"<td{kind if kinds and place == RATIO else ''}>{escape(cell)}</td>" for place, cell in enumerate(row)]
        lines.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table>{''.join(lines)}</table>"


RATIO = 5
"""The place of the ratio in a comparison's row."""

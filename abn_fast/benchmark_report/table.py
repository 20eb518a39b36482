from typing import Any

from abn_fast._optional import require
from abn_fast.benchmark_report.against import Change
from abn_fast.benchmark_report.case import Comparison, Measured, amount
from abn_fast.benchmark_report.results import Results


def print_table(results: Results, width: int | None = None) -> None:
    """Print every comparison in one table, the ratios green where we are clearly better and red where the peer is.

    Raises:
        AbnFastError: rich is not installed.
    """
    table = _rich("table").Table(title="times as good as the peer (median, quartiles)", title_justify="left")
    for heading in ("case", "ours", "takes", "peer", "takes"):
        table.add_column(heading, overflow="fold")
    table.add_column("ratio", justify="right")
    for suite in results.suites:
        rows = results.of(suite.name)
        if rows:
            table.add_section()
            table.add_row(f"[bold]{suite.name}[/bold]")
        for each in rows:
            cells = [str(each.case), *_cells(each.ours, each), *_cells(each.peer, each)]
            table.add_row(*map(_rich("markup").escape, cells), _ratio(each))
    _console(width).print(table)


def print_slower(changes: list[Change], compared: int, path: str) -> None:
    """Print what got slower than in the earlier run of that file."""
    console = _console(None)
    line = f"{len(changes)} of {compared} got slower than in {path}, beyond the noise of both"
    console.print(line, style="red" if changes else "green", markup=False, highlight=False)
    for change in changes:
        now, before = (amount(each.ours.median, each.quantity) for each in (change.now, change.before))
        line = f"  {change.factor:.2f} times: {change.now.case}: {change.now.ours.name}: {before} -> {now}"
        console.print(line, markup=False, highlight=False)


def _cells(measured: Measured | None, each: Comparison) -> tuple[str, str]:
    return ("", "") if measured is None else (measured.name, spread(measured, each.quantity))


def spread(measured: Measured, quantity: str) -> str:
    """Median and, where rounds differ, quartiles."""
    middle = amount(measured.median, quantity)
    if measured.lower == measured.upper:
        return middle
    return f"{middle} ({amount(measured.lower, quantity)} to {amount(measured.upper, quantity)})"


def _ratio(each: Comparison) -> str:
    if each.ratio is None:
        return ""
    style = ("red" if each.lost else "green") if each.clear else "yellow"
    return f"[{style}]{each.ratio:.2f}[/{style}]"


def _console(width: int | None) -> Any:
    return _rich("console").Console(width=width)


def _rich(module: str) -> Any:
    return require(f"rich.{module}", extra="bench", purpose="the table of abn-fast bench")

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from abn_fast.recipes.published import Cell


@click.command()
@click.argument("table", required=False)
@click.option("--row", help="Only this row.")
@click.option("--column", help="Only this column.")
@click.option("--run", "runs", is_flag=True, help="Train what has not been trained yet; an interrupted run goes on.")
@click.option("--set", "assignments", multiple=True, help="KEY=VALUE for every cell: data.root=/data, epochs=1, ...")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
@click.option("--workers", type=int, help="Processes that load images; by default one a core, up to 8, for files.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/reproduce"), show_default=True)
def reproduce(
    table: str | None,
    row: str | None,
    column: str | None,
    runs: bool,
    assignments: tuple[str, ...],
    device: str | None,
    workers: int | None,
    out: Path,
) -> None:
    """The paper's tables: list them, show one with the published figures beside ours, or train its cells (--run)."""
    from abn_fast._checks import checked_choice
    from abn_fast._errors import AbnFastError
    from abn_fast.recipes.published import TABLES

    if table is None:
        for name, cells in TABLES.items():
            rows = list(dict.fromkeys(cell.row for cell in cells))
            click.echo(f"{name:10} {' / '.join(dict.fromkeys(c.column for c in cells)):32} {'; '.join(rows)}")
        return
    cells = TABLES[checked_choice("table", table, TABLES)]
    chosen = [cell for cell in cells if row in (None, cell.row) and column in (None, cell.column)]
    if not chosen:
        known = "; ".join(f"{cell.row} / {cell.column}" for cell in cells)
        raise AbnFastError(f"{table} has no cell of row {row!r} and column {column!r}; it has {known}")
    if runs:
        for cell in chosen:
            _run(cell, out / table, assignments, device, workers)
    click.echo(f"{'':30} {'':12} {'published':>10} {'ours':>8}   (top-1 error, %)")
    for cell in chosen:
        click.echo(_line(cell, out / table))


def _run(cell: "Cell", out: Path, assignments: tuple[str, ...], device: str | None, workers: int | None) -> None:
    from abn_fast.cli.train import run_recipe
    from abn_fast.recipes import read_recipe
    from abn_fast.training import RunFolder, choose_device
    from abn_fast.training.distributed import process_group

    folder = RunFolder(_folder(cell, out))
    if folder.summary.exists():
        return
    recipe = read_recipe(cell.recipe).changed([*cell.changes, *assignments])
    click.echo(f"{cell.row} / {cell.column}: {recipe.model['name']} by {cell.recipe} into {folder.path}")
    with process_group(choose_device(device)) as chosen:
        run_recipe(recipe, None, folder, "auto", chosen, workers)


def _folder(cell: "Cell", out: Path) -> Path:
    name = f"{cell.row}-{cell.column}".lower()
    return out / "".join(letter if letter.isalnum() else "_" for letter in name)


def _line(cell: "Cell", out: Path) -> str:
    published = "-" if cell.published is None else f"{cell.published:.2f}"
    note = f"   {cell.note}" if cell.note else ""
    summary = RunSummary.read(_folder(cell, out) / "summary.json")
    ours, departs = ("-", "") if summary is None else (f"{summary.error:.2f}", summary.departs)
    return f"{cell.row:30} {cell.column:12} {published:>10} {ours:>8}{note}{departs}"


class RunSummary:
    """What a finished run says of itself."""

    def __init__(self, error: float, departs: str) -> None:
        self.error, self.departs = error, departs

    @classmethod
    def read(cls, path: Path) -> "RunSummary | None":
        """The summary at a path, if the run has finished."""
        if not path.is_file():
            return None
        values = json.loads(path.read_text())
        changed = json.loads((path.parent / "run.json").read_text()).get("departs", [])
        accuracy = values.get("test_top1", values.get("test_accuracy"))
        return cls(100 - accuracy, f"   changed: {', '.join(changed)}" if changed else "")

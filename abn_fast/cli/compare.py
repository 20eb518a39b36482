from pathlib import Path

import click


@click.command()
@click.argument("runs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), help="Draw their curves into this PNG.")
def compare(runs: tuple[Path, ...], out: Path | None) -> None:
    """Show runs side by side: what differs in their settings, and their results."""
    from abn_fast.training.compare import compare_runs, write_comparison

    click.echo(compare_runs(runs))
    if out is not None:
        write_comparison(runs, out)
        click.echo(f"{out}")

import click


@click.command()
@click.option("--op", "ops", multiple=True, metavar="OP", help="An op, for example attention_gate; by default all.")
@click.option(
    "--shapes", default="resnet50,cifar", show_default=True, help="Of resnet50, cifar and multi-task, or all."
)
@click.option(
    "--dtype", "dtypes", multiple=True, metavar="DTYPE", help="float16, bfloat16 or float32; by default all three."
)
@click.option(
    "--out", type=click.Path(), help="By default $ABN_FAST_TUNING or the user's cache, where launches find it."
)
@click.option("--seconds", type=float, help="Stop after about so long; the same command goes on.")
@click.option("--again", is_flag=True, help="Measure what the file already has, too.")
def tune(
    ops: tuple[str, ...], shapes: str, dtypes: tuple[str, ...], out: str | None, seconds: float | None, again: bool
) -> None:
    """Measure launch configurations on this machine's GPU and write the best to a file that launches read.

    Interrupted, it keeps what it has; called again, it goes on.
    """
    from pathlib import Path

    from tqdm import tqdm

    from abn_fast._checks import checked_choice
    from abn_fast._errors import AbnFastError
    from abn_fast.kernels import _dispatch
    from abn_fast.kernels._tuning_file import tuned_path

    if not _dispatch._HAS_TRITON:
        raise AbnFastError("tuning runs the Triton kernels and Triton is not installed: pip install triton")

    from abn_fast.tuning import DTYPES, SHAPES, cases_of
    from abn_fast.tuning import tune as tune_kernels

    path = Path(out) if out else tuned_path()
    try:
        summary = tune_kernels(
            cases_of(SHAPES if shapes == "all" else shapes.split(",")),
            [DTYPES[checked_choice("dtype", name, DTYPES)] for name in dtypes or DTYPES],
            ops,
            path,
            again,
            seconds,
            log=lambda line: tqdm.write(line),
        )
    except KeyboardInterrupt:
        click.echo(f"what is measured is in {path}; the same command goes on")
        raise
    left = f", {summary.left} left: the same command goes on" if summary.left else ""
    click.echo(f"{summary.measured} configurations measured, {summary.faster} faster than shipped{left}; {path}")
    if path != tuned_path():
        click.echo(f"launches read it where ABN_FAST_TUNING={path} is set")

import click

from abn_fast.cli.kernels.check import check
from abn_fast.cli.kernels.tune import tune


@click.group()
def kernels() -> None:
    """Prove the GPU kernels, or tune them for this machine's GPU."""


for command in (check, tune):
    kernels.add_command(command)

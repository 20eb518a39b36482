import json
import sys
from pathlib import Path

import click


@click.command()
@click.option("--json", "file", type=click.Path(dir_okay=False), help="Write all rows to this file.")
@click.option("--targets", default="sm_80,sm_90", show_default=True, help="Architectures to compile for, or all.")
@click.option(
    "--only", metavar="PROOFS", help="Of machine_code, traffic, numbers, graphs, head and roofline; by default all."
)
@click.option("--op", "ops", multiple=True, metavar="OP", help="An op, for example attention_gate; by default all.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, show_default=True, help="Kernels compiled at a time.")
@click.option("--write-docs", is_flag=True, help="Renew docs/kernels.md, in a checkout of the project.")
def check(file: str | None, targets: str, only: str | None, ops: tuple[str, ...], jobs: int, write_docs: bool) -> None:
    """Prove the kernels without a GPU: numbers, bytes, machine code, graphs; and compute their roofline.

    Exits with 1 if something does not hold. An interrupted check has kept what it compiled.
    """
    from abn_fast._checks import checked_choice
    from abn_fast.proofs import report, tables
    from abn_fast.proofs.cases import OPS
    from abn_fast.proofs.devices import TARGETS

    named = TARGETS if targets == "all" else targets.split(",")
    wanted = [checked_choice("target", name, TARGETS) for name in named]
    proofs = [checked_choice("proof", name, report.PROOFS) for name in only.split(",")] if only else report.PROOFS
    for op in ops:
        checked_choice("op", op, [name for name in OPS if " " not in name])
    found = report.run(proofs, wanted, ops or None, jobs)
    for name in proofs:
        click.echo(tables.text(name, found[name]) + "\n")
    if file:
        Path(file).write_text(json.dumps(found, indent=1), encoding="utf-8")
    if write_docs:
        report.write_document(found)
    wrong = report.failures(found)
    for name, row in wrong:
        click.echo(f"FAILED {name} {json.dumps(row)}", err=True)
    click.echo(f"{sum(len(found[name]) for name in proofs)} checks, {len(wrong)} failed")
    if wrong:
        sys.exit(1)

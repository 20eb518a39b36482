import sys
from datetime import datetime
from pathlib import Path

import click

FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.option("--suite", "suites", multiple=True, metavar="NAME", help="For example training; by default all.")
@click.option("--models", multiple=True, metavar="PATTERN", help="Only cases of these models, for example *resnet50.")
@click.option("--quick", is_flag=True, help="A part of each suite, under 10 minutes on two cores.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("runs/bench"), show_default=True)
@click.option("--resume", is_flag=True, help="Go on with the run in OUT: suites that it has measured are kept.")
@click.option("--against", type=FILE, help="Flag what got slower than in this results.json of an earlier run.")
@click.option("--folder", type=click.Path(path_type=Path), help="The suites; by default bench/ of this checkout.")
@click.option("--write-docs", type=FILE, metavar="FILE", help="Write what the documentation shows, docs/bench.json.")
def bench(
    suites: tuple[str, ...],
    models: tuple[str, ...],
    quick: bool,
    out: Path,
    resume: bool,
    against: Path | None,
    folder: Path | None,
    write_docs: Path | None,
) -> None:
    """Measure this library against its peers on this machine, and write a report.

    Runs the suites of a checkout; OUT gets results.json, results.csv and report.html after each of them, so that a run
    that was stopped goes on by --resume. Exits with 1 if a test did not hold or, with --against, something got slower.
    """
    from dataclasses import replace

    from abn_fast._optional import require
    from abn_fast.benchmark_report import Results, read_json, slower
    from abn_fast.benchmark_report.against import in_common
    from abn_fast.benchmark_report.html import page
    from abn_fast.benchmark_report.machine import machine, versions
    from abn_fast.benchmark_report.results import continued, write_csv, write_document, write_json, write_text
    from abn_fast.benchmark_report.suites import chosen_suites, run_suite, suites_folder
    from abn_fast.benchmark_report.table import print_slower, print_table

    place = suites_folder(folder)
    names = chosen_suites(place, suites)
    for module in ("rich", "pytest", "pytest_benchmark"):
        require(module, extra="bench", purpose="abn-fast bench")
    earlier = None if against is None else read_json(against)
    options = [*(["--quick"] if quick else []), *(f"--models={name}" for name in models)]
    command = " ".join(["abn-fast bench", *(f"--suite {name}" for name in suites), *options])
    date = datetime.now().astimezone().isoformat(" ", "minutes")
    results = Results(date, command, machine(), versions(place.parent))
    if resume and (out / "results.json").exists():
        results = continued(read_json(out / "results.json"), results, out)
    kept = {suite.name for suite in results.suites}
    changes = None if earlier is None else slower(results, earlier)
    for index, name in enumerate(names):
        click.echo(f"[{index + 1}/{len(names)}] {name}{': kept' if name in kept else ''}")
        if name in kept:
            continue
        found = run_suite(place, name, options)
        results = replace(
            results,
            suites=[*results.suites, found.suite],
            failures=[*results.failures, *found.failures],
            comparisons=[*results.comparisons, *found.comparisons],
        )
        changes = None if earlier is None else slower(results, earlier)
        write_json(results, out / "results.json")
        write_csv(results, out / "results.csv")
        write_text(out / "report.html", page(results, changes, str(against)))
    print_table(results)
    if write_docs is not None:
        write_document(results, write_docs)
    lost, compared = results.lost(), sum(each.peer is not None for each in results.comparisons)
    click.echo(f"a peer is better in {len(lost)} of {compared} comparisons; {len(results.failures)} tests did not hold")
    for failure in results.failures:
        click.echo(f"FAILED {failure.test}: {failure.line}", err=True)
    if earlier is not None and changes is not None:
        print_slower(changes, in_common(results, earlier), str(against))
    click.echo(f"{out / 'report.html'}")
    if results.failures or changes:
        sys.exit(1)

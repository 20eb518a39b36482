import json
import sys
from collections import defaultdict
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from abn_fast.data import DataReport, Problem

LISTED_CLASSES = 20


@click.command("check-data")
@click.argument("path", type=click.Path())
@click.option("--data", default="image-folder", show_default=True, help="What PATH holds: a name as of `train --data`.")
@click.option("--tiny", type=int, default=10, show_default=True, help="Note classes of fewer training images.")
@click.option("--show", type=int, default=20, show_default=True, help="Lines shown of each kind of problem.")
@click.option("--workers", type=int, default=1, show_default=True, help="Threads that decode images.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
def check_data(path: str, data: str, tiny: int, show: int, workers: int, as_json: bool) -> None:
    """Read every image in PATH and say what is wrong: one line a problem, and exit code 1 if there is any.

    Problems are a wrong layout, images that cannot be decoded, and the same picture in both splits or in two
    classes. Tiny classes and images that are not RGB are noted.
    """
    from abn_fast._checks import checked_whole
    from abn_fast.data import check_data as check

    checked_whole("show", show)
    report = check(data, path, tiny=tiny, workers=checked_whole("workers", workers), progress=True)
    if as_json:
        click.echo(json.dumps(report.to_dict(), indent=2))
    else:
        for line in [*_counts(report), *_lines(report.notes, show, "note: "), *_lines(report.problems, show, "")]:
            click.echo(line)
        click.echo(f"{len(report.problems)} problems in {sum(report.images.values())} images")
    if report.problems:
        sys.exit(1)


def _counts(report: "DataReport") -> list[str]:
    lines = []
    for split, counts in report.counts.items():
        images = report.images.get(split, 0)
        lines.append(f"{split}: {images} readable images, {len(counts)} classes of {_range(counts)} images")
        if len(counts) <= LISTED_CLASSES:
            lines += [f"  {name}: {count}" for name, count in counts.items()]
    return lines


def _range(counts: dict[str, int]) -> str:
    least, most = min(counts.values()), max(counts.values())
    return f"{least}" if least == most else f"{least} to {most}"


def _lines(problems: "list[Problem]", show: int, prefix: str) -> list[str]:
    by_kind = defaultdict(list)
    for problem in problems:
        by_kind[problem.kind].append(f"{prefix}{problem.kind}: {problem.message}")
    lines = []
    for kind, messages in by_kind.items():
        lines += messages[:show]
        if len(messages) > show:
            lines.append(f"{prefix}{kind}: and {len(messages) - show} more")
    return lines

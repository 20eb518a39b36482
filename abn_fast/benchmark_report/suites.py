"""Running the suites of a checkout, each by pytest in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple
from xml.etree import ElementTree

import abn_fast
from abn_fast._checks import checked_choice
from abn_fast._errors import AbnFastError
from abn_fast.benchmark_report.case import Comparison
from abn_fast.benchmark_report.results import Failure, Suite

PACKAGE = Path(abn_fast.__file__).resolve().parents[1]
BROKEN = 2
"""Pytest's exit codes from here on tell of no tests, but of an interrupt, a wrong option or a broken suite."""
NOTHING_SELECTED = 5


class Found(NamedTuple):
    """What a suite found."""

    suite: Suite
    failures: list[Failure]
    comparisons: list[Comparison]


def suites_folder(folder: Path | None = None) -> Path:
    """The given folder, or bench/ of the checkout that this package is imported from.

    Raises:
        AbnFastError: no suites are there, as in an installed wheel.
    """
    chosen = PACKAGE / "bench" if folder is None else folder.resolve()
    if not list(chosen.glob("test_*.py")):
        raise AbnFastError(
            f"no suites in {chosen}: abn-fast bench runs those of a checkout of the project, in its venv"
        )
    return chosen


def chosen_suites(folder: Path, names: Sequence[str] = ()) -> list[str]:
    """The suites of a folder by their names without test_, all or those named.

    Raises:
        AbnFastError: a suite that is not there.
    """
    there = sorted(file.stem.removeprefix("test_") for file in folder.glob("test_*.py"))
    return [checked_choice("suite", name, there) for name in names] or there


def run_suite(folder: Path, name: str, options: Sequence[str] = ()) -> Found:
    """Run a suite; what its tests print goes to the terminal.

    Raises:
        AbnFastError: pytest did not come to the tests; it has said why.
    """
    with TemporaryDirectory() as temporary:
        times, tests = Path(temporary, "times.json"), Path(temporary, "tests.xml")
        command = [sys.executable, "-m", "pytest", f"{folder.name}/test_{name}.py", "-Wdefault", *options]
        command += ["-s", "-p", "no:cacheprovider", "--no-header", "--tb=short", "--benchmark-quiet"]
        command += [f"--benchmark-json={times}", f"--junit-xml={tests}"]
        paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
        # pytest-benchmark measures nothing in what it takes for a worker of pytest-xdist
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_XDIST")}
        environment = inherited | {"PYTHONPATH": os.pathsep.join(paths)}
        code = subprocess.run(command, cwd=folder.parent, env=environment, check=False).returncode
        if code >= BROKEN and code != NOTHING_SELECTED:
            raise AbnFastError(f"suite {name}: pytest ended with {code} before its tests had; its lines above say why")
        return Found(*_read_tests(name, tests), _read_comparisons(name, times))


def _read_comparisons(suite: str, path: Path) -> list[Comparison]:
    """All that its benchmarks left; pytest-benchmark leaves an empty file where none ran."""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [
        Comparison.from_json(row, suite=suite, test=benchmark["name"])
        for benchmark in (json.loads(text)["benchmarks"] if text else ())
        for row in benchmark["extra_info"].get("comparisons", ())
    ]


def _read_tests(suite: str, path: Path) -> tuple[Suite, list[Failure]]:
    counts = dict.fromkeys(("failures", "errors", "skipped", "tests"), 0)
    failures, seconds = [], 0.0
    root = ElementTree.parse(path).getroot()
    for each in root.iter("testsuite"):
        counts = {key: count + int(each.get(key, 0)) for key, count in counts.items()}
        seconds += float(each.get("time", 0))
    for case in root.iter("testcase"):
        for problem in (*case.iter("failure"), *case.iter("error")):
            line = (problem.get("message") or "no message").strip().splitlines()[0]
            failures.append(Failure(f"test_{suite}.py::{case.get('name')}", line))
    failed = counts["failures"] + counts["errors"]
    passed = counts["tests"] - failed - counts["skipped"]
    return Suite(suite, round(seconds, 1), passed, failed, counts["skipped"]), failures

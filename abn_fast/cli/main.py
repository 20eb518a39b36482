import sys

import click

from abn_fast._errors import AbnFastError
from abn_fast._version import __version__
from abn_fast.cli.animate import animate
from abn_fast.cli.bench import bench
from abn_fast.cli.check_data import check_data
from abn_fast.cli.compare import compare
from abn_fast.cli.demo import demo
from abn_fast.cli.describe import describe
from abn_fast.cli.edit import edit
from abn_fast.cli.evaluate import evaluate
from abn_fast.cli.explain import explain
from abn_fast.cli.explain_score import explain_score
from abn_fast.cli.explain_study import explain_study
from abn_fast.cli.export import export
from abn_fast.cli.kernels import kernels
from abn_fast.cli.load_test import load_test
from abn_fast.cli.models import models
from abn_fast.cli.quickstart import quickstart
from abn_fast.cli.recipes import recipes
from abn_fast.cli.reproduce import reproduce
from abn_fast.cli.rewrites import rewrites
from abn_fast.cli.serve import serve
from abn_fast.cli.train import train
from abn_fast.cli.verify import verify

BAD_INPUT, UNEXPECTED, INTERRUPTED = 2, 1, 130


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="abn-fast")
@click.option("--debug", is_flag=True, help="Show the Python traceback of an error.")
def commands(debug: bool) -> None:
    """Train, evaluate and explain attention branch networks."""


for command in (
    models,
    recipes,
    check_data,
    train,
    evaluate,
    compare,
    reproduce,
    explain,
    explain_score,
    explain_study,
    animate,
    edit,
    export,
    verify,
    describe,
    rewrites,
    serve,
    demo,
    load_test,
    quickstart,
    kernels,
    bench,
):
    commands.add_command(command)


def main(arguments: list[str] | None = None) -> None:
    """Run a command; errors are one line on stderr, and the exit code is not 0."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        commands.main(arguments, prog_name="abn-fast", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.exceptions.Abort, KeyboardInterrupt):
        _fail("interrupted", INTERRUPTED)
    except Exception as error:
        if "--debug" in arguments:
            raise
        if isinstance(error, AbnFastError):
            from abn_fast.training import TrainingInterruptedError

            _fail(_last_line(error), INTERRUPTED if isinstance(error, TrainingInterruptedError) else BAD_INPUT)
        _fail(f"unexpected {type(error).__name__}: {_first_line(error)} (abn-fast --debug ... shows where)", UNEXPECTED)


def _fail(line: str, code: int) -> None:
    click.echo(f"abn-fast: {line}", err=True)
    sys.exit(code)


def _last_line(error: AbnFastError) -> str:
    """The message; a process that loads images wraps it in its traceback."""
    kind = type(error)
    return str(error).splitlines()[-1].removeprefix(f"{kind.__module__}.{kind.__qualname__}: ")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]

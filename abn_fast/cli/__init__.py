"""The command line, `abn-fast` or `python -m abn_fast`."""

from abn_fast.cli.main import main

__all__ = ["main"]

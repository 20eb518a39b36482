import hashlib
import json
import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import triton
from tqdm import tqdm

from abn_fast._files import write_atomically
from abn_fast.proofs import machine_code, sass, ttgir
from abn_fast.proofs.machine_code import MachineCode, Source, compile_source, disassemble

_pending: dict[str, Source] = {}


def compile_all(sources: Sequence[Source], jobs: int = 1, folder: Path | None = None) -> list[MachineCode]:
    """The machine code of each source, compiled in `jobs` processes; equal sources once.

    Results are kept in `folder`, by default in the user's cache, so that an interrupted run resumes.
    """
    folder = folder or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "abn_fast" / "machine_code"
    keys = [_key(source) for source in sources]
    files = {key: folder / f"{key}.json" for key in keys}
    _pending.update({key: source for key, source in zip(keys, sources, strict=True) if not files[key].exists()})
    try:
        todo = list(_pending)
        for key, code in tqdm(_compiled(todo, jobs), "kernels compiled", len(todo), disable=not todo):
            write_atomically(files[key], lambda file, code=code: file.write_text(json.dumps(vars(code))))  # type: ignore[misc]
    finally:
        _pending.clear()
    found = {key: _read(file) for key, file in files.items()}
    return [found[key] for key in keys]


def _compiled(keys: list[str], jobs: int) -> Iterable[tuple[str, MachineCode]]:
    if jobs == 1 or len(keys) < 2:
        yield from map(_compile, keys)
    else:
        # forked, they have the sources, which cannot be sent
        with multiprocessing.get_context("fork").Pool(jobs) as pool:
            yield from pool.imap_unordered(_compile, keys)


def _compile(key: str) -> tuple[str, MachineCode]:
    with tempfile.TemporaryDirectory() as folder:
        return key, disassemble(compile_source(_pending[key]), Path(folder))


def _read(file: Path) -> MachineCode:
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    counters: dict[str, Any] = {name: Counter(x) for name, x in values.items() if isinstance(x, dict)}
    return MachineCode(**values | counters)


def _key(source: Source) -> str:
    options = sorted((name, str(value)) for name, value in source.options.items())
    parts = (source.kernel.hash(), str(source.target), str(options), _readers())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


@cache
def _readers() -> str:
    """What else the result depends on: Triton, and how machine code is read."""
    files = (Path(str(module.__file__)) for module in (machine_code, sass, ttgir))
    return str(triton.__version__) + "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from abn_fast._version import __version__

INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_bf16", "amx_int8")
PACKAGES = ("torch", "triton", "timm", "onnx", "onnxruntime", "onnxruntime-gpu", "openvino", "grad-cam", "numpy")


def machine() -> dict[str, Any]:
    """What the figures depend on beside the software: processor, cores, threads, instruction sets, memory, GPU."""
    import torch

    found: dict[str, Any] = {
        "cpu": _cpu_field("model name") or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": torch.get_num_threads(),
        "instruction sets": [name for name in INSTRUCTIONS if name in _cpu_field("flags").split()],
        "system": platform.platform(terse=True),
    }
    if hasattr(os, "sysconf"):
        found["memory, GB"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def versions(checkout: Path | None = None) -> dict[str, str]:
    """Of Python, this library, the checkout's commit, and the packages that compute."""
    found = {"abn_fast": __version__, "python": platform.python_version()}
    commit = _commit(checkout) if checkout is not None else None
    if commit is not None:
        found["commit"] = commit
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _commit(checkout: Path) -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=checkout, capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def _cpu_field(name: str) -> str:
    """A field of the first processor, where Linux tells."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == name), "")

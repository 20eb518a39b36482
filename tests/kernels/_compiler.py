"""For which compiler the launch configurations of all targets were chosen."""

import json
from pathlib import Path

import pytest
import triton

_TABLES = json.loads((Path(__file__).parents[2] / "docs" / "kernels.json").read_text())
CHOSEN_FOR = _TABLES["machine_code"]["versions"]["triton"]

all_targets = pytest.mark.skipif(
    triton.__version__ != CHOSEN_FOR,
    reason=f"chosen with Triton {CHOSEN_FOR}; what another makes of targets other than sm_80 and sm_90 is told by "
    "abn-fast kernels check --targets all",
)
"""Mark of tests of targets that `make check-kernels` leaves out: registers and vectors follow the compiler."""

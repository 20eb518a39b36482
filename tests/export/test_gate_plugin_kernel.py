"""The gate's kernel as PTX: what it takes, where it assembles, and how its programs share the work."""

import re
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch

from abn_fast import AbnFastError
from abn_fast.export.tensorrt.flavour import RTX, number
from abn_fast.export.tensorrt.plugin.kernel import CompiledGate, compile_gate, ptx_target
from abn_fast.export.tensorrt.plugin.layout import GateSpec, divide
from abn_fast.export.tensorrt.plugin.ptx import entry, with_parameters
from tests.kernels._interpreter import run_in_interpreter

triton = pytest.importorskip("triton", reason="the kernel is compiled by Triton")

POINTER, NUMBER = ".u64", ".u32"
CARDS = (75, 80, 86, 89, 90, 100, 120, 121)


def spec(
    channels_last: bool = False, fixed: bool = True, maps: int = 1, dtype: torch.dtype = torch.float16
) -> GateSpec:
    return GateSpec(256, maps, dtype, dtype, channels_last, True, 8, 196, fixed)


@pytest.mark.parametrize(("channels_last", "fixed"), list(product((False, True), repeat=2)))
def test_the_parameters_are_what_tensorrt_passes_and_it_assembles_for_every_card(
    channels_last: bool, fixed: bool, tmp_path: Path
) -> None:
    assembler = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "ptxas"
    target = {(False, False): "sm_75", (False, True): "sm_80", (True, False): "sm_86", (True, True): "sm_89"}
    made_for = target[channels_last, fixed]
    compiled = compile_gate(spec(channels_last, fixed), made_for)
    name, parameters = entry(compiled.ptx)
    assert name == compiled.name
    assert [kind for kind, _ in parameters] == [POINTER] * 2 + [NUMBER] * 3 + [POINTER] * 2
    assert f".target {made_for}\n" in compiled.ptx
    assert f".reqntid {compiled.threads}" in compiled.ptx
    assert "/" not in re.sub("//.*", "", compiled.ptx), "it names a folder"
    path = tmp_path / "gate.ptx"
    path.write_text(compiled.ptx)
    for card in CARDS:
        if card >= number(made_for):
            command = [str(assembler), f"-arch=sm_{card}", str(path), "-o", str(tmp_path / "gate.cubin")]
            done = subprocess.run(command, capture_output=True, text=True)
            assert done.returncode == 0, done.stderr


def test_features_move_in_whole_vectors_where_their_size_allows() -> None:
    def widths(compiled: CompiledGate) -> set[str]:
        return set(re.findall(r"ld\.global\.([\w.]+)", compiled.ptx))

    assert "v4.b32" in widths(compile_gate(spec(), "sm_80"))
    assert "v4.b32" in widths(compile_gate(spec(channels_last=True, fixed=False), "sm_80"))
    assert widths(compile_gate(spec(fixed=False), "sm_80")) == {"b16"}


def test_ptx_for_the_oldest_card_serves_all() -> None:
    assert ptx_target(RTX.targets) == "sm_75"
    assert ptx_target(("sm_120", "sm_121")) == "sm_89"
    assert ptx_target(("sm_86", "sm_89")) == "sm_86"


def test_a_compiled_gate_survives_being_written() -> None:
    compiled = compile_gate(spec(), "sm_80")
    assert CompiledGate.from_json(compiled.to_json()) == compiled


TEXT = """.visible .entry gate(
\t.param .u64 .ptr .global .align 1 gate_param_0,
\t.param .u32 gate_param_1,
\t.param .u64 .ptr .global .align 1 gate_param_2
)
.reqntid 128
{
\tld.param.b64 \t%rd1, [gate_param_0];
}
"""


def test_hidden_parameters_go_unless_they_are_used() -> None:
    assert entry(TEXT) == ("gate", [(POINTER, "gate_param_0"), (NUMBER, "gate_param_1"), (POINTER, "gate_param_2")])
    less = with_parameters(TEXT, 2)
    assert entry(less) == ("gate", [(POINTER, "gate_param_0"), (NUMBER, "gate_param_1")])
    assert with_parameters(TEXT, 3).split() == TEXT.split()
    with pytest.raises(AbnFastError, match="uses its hidden parameter gate_param_2"):
        with_parameters(TEXT.replace("[gate_param_0]", "[gate_param_2+4]"), 2)
    assert entry(with_parameters(TEXT.replace("[gate_param_0]", "[gate_param_20]"), 2))
    with pytest.raises(AbnFastError, match="has 3 parameters instead of 4"):
        with_parameters(TEXT, 4)
    with pytest.raises(AbnFastError, match="2 kernels instead of 1"):
        entry(TEXT + TEXT)
    with pytest.raises(AbnFastError, match=r"unknown kind: '\.param \.b8 structure"):
        entry(TEXT.replace(".u32 gate_param_1", ".b8 structure[8]"))


@pytest.mark.parametrize(("channels_last", "fixed", "maps"), list(product((False, True), (False, True), (1, 3))))
def test_the_programs_cover_every_channel_and_pixel(channels_last: bool, fixed: bool, maps: int) -> None:
    given = spec(channels_last, fixed, maps)
    division = divide(given, "sm_80")
    assert division.splits * division.chunks * division.block_a * division.run >= given.channels
    for pixels in (196,) if fixed else (1, 49, 196, 784):
        tiles = division.programs(3, pixels) // (3 * division.splits)
        assert tiles * division.block_b >= pixels * division.run > (tiles - 1) * division.block_b


def test_without_triton_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(AbnFastError, match="the gate's plugin needs Triton, which comes with torch for Linux"):
        compile_gate(spec(dtype=torch.float32, maps=7), "sm_80")


def test_the_kernel_computes_the_gate() -> None:
    run_in_interpreter("../export/interpreted_gate_plugin.py")

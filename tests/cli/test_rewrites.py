"""`abn-fast rewrites`: FLOPs and bytes before and after each rewrite."""

import re
from pathlib import Path

import pytest

from abn_fast import create_model, save_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export import rewrite_costs
from tests.cli.conftest import Run


def numbers(line: str) -> list[float]:
    return [float(value) for value in re.findall(r"([\d.]+)%?(?=\s|$)", line[-45:])]


def test_the_table_has_the_costs_of_a_model_by_name(run: Run) -> None:
    shown = run("rewrites", "abn_cifar_resnet20", "--size", "48", "--batch", "4", "--outputs", "logits")
    assert shown.code == 0, shown.err
    title, _, *lines = shown.out.splitlines()
    assert title == "abn_cifar_resnet20, 4 x 48x48"
    rows = rewrite_costs(create_model("abn_cifar_resnet20"), (48, 48), 4, outputs=["logits"])
    assert [line[: len(row.rewrite)] for line, row in zip(lines, rows, strict=True)] == [row.rewrite for row in rows]
    for line, row in zip(lines, rows, strict=True):
        flops, flops_share, moved, moved_share = numbers(line)
        assert flops == pytest.approx(row.flops / 1e9, abs=1e-3)
        assert moved == pytest.approx(row.bytes / 1e6, abs=1e-2)
        assert flops_share == pytest.approx(100 * row.flops / rows[0].flops, abs=0.1)
        assert moved_share == pytest.approx(100 * row.bytes / rows[0].bytes, abs=0.1)
    assert rows[-1].bytes < rows[0].bytes / 2


def test_a_checkpoint_states_its_size(run: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    preprocessing = Preprocessing((20, 26), (0.5,) * 3, (0.5,) * 3)
    save_checkpoint(create_model("abn_cifar_resnet8", num_classes=3), checkpoint, preprocessing=preprocessing)
    shown = run("rewrites", checkpoint, "--dtype", "float32")
    assert shown.code == 0, shown.err
    assert "1 x 20x26" in shown.out
    assert "float16" not in shown.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "nothing"),
        (("nothing.pth",), "nothing.pth: no such file"),
        (("abn_cifar_resnet8", "--dtype", "int8"), "dtype='int8'; expected one of"),
        (("abn_cifar_resnet8", "--outputs", "maps"), "has no output 'maps'"),
        (("abn_cifar_resnet8", "--size", "big"), "big"),
        (("abn_vgg16", "--size", "8"), "8x8"),
    ],
)
def test_bad_options_are_told_in_one_line(run: Run, arguments: tuple[str, ...], message: str) -> None:
    refused = run("rewrites", *arguments)
    assert refused.code == 2
    assert message in refused.err
    assert refused.err.count("\n") == 1

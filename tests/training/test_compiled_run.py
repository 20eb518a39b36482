"""Runs under torch.compile; the code that Inductor makes of a step is in test_step and test_distributed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import create_model
from abn_fast.training import TrainingConfig, step, train
from tests.training._data import stripes

Size = tuple[int | str, ...]


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[Size]:
    """The sizes of the images of each graph that is compiled, by name where they are symbols; graphs run as traced."""
    found: list[Size] = []

    def backend(graph: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        traced = [node.meta["example_value"] for node in graph.graph.find_nodes(op="placeholder")]
        (images,) = (x for x in traced if isinstance(x, torch.Tensor) and x.ndim == 4 and not x.requires_grad)
        found.append(tuple(side if isinstance(side, int) else str(side) for side in images.shape))
        return graph.forward

    def compile_module(self: nn.Module, **options: Any) -> None:
        nn.Module.compile(self, backend=backend, fullgraph=options["fullgraph"])

    monkeypatch.setattr(step._NetworkAndLoss, "compile", compile_module)
    return found


def graphs_of_a_run(folder: Path, sizes: list[Size], size: int = 16, **settings: Any) -> list[int]:
    """How many graphs are compiled after each epoch of 11 images in batches of 4, 4 and 3."""
    graphs: list[int] = []
    torch.manual_seed(5)
    train(
        create_model("abn_cifar_resnet8", num_classes=3, width=4),
        stripes(11, size=size),
        stripes(3, augment=False, size=size),
        TrainingConfig(batch_size=4, compile="default", precision="fp32", **settings),
        folder,
        validation_set=stripes(2, augment=False, size=size),
        log=lambda line: None,
        metrics=lambda row: graphs.append(len(sizes)),
    )
    return graphs


@pytest.mark.parametrize("parts", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_nothing_is_compiled_again_after_the_first_epoch(tmp_path: Path, sizes: list[Size], parts: int) -> None:
    torch._dynamo.utils.counters.clear()
    graphs = graphs_of_a_run(tmp_path, sizes, epochs=3, accumulation_steps=parts)
    assert graphs[0] <= 3
    assert graphs == [graphs[0]] * 3
    assert not torch._dynamo.utils.counters["graph_break"]


@torch._dynamo.config.patch(recompile_limit=2)
def test_a_run_is_compiled_as_the_first_of_its_process(tmp_path: Path, sizes: list[Size]) -> None:
    """Runs before it make no symbols of its height and width and use up none of the graphs that a run may have."""
    for size in (16, 12):
        graphs_of_a_run(tmp_path / str(size), sizes, size, epochs=1)
    assert [shape[2:] for shape in sizes] == [(16, 16), (16, 16), (12, 12), (12, 12)]
    assert [type(shape[0]) for shape in sizes] == [int, str] * 2

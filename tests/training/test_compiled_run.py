"""A run under torch.compile, with the backward of AOTAutograd; the code that Inductor makes of it is in test_step."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from abn_fast import create_model
from abn_fast.training import TrainingConfig, step, train
from tests.training._data import stripes


@pytest.mark.slow
def test_nothing_is_compiled_again_after_the_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def traced(self: nn.Module, **options: Any) -> None:
        nn.Module.compile(self, backend="aot_eager", fullgraph=options["fullgraph"])

    monkeypatch.setattr(step._NetworkAndLoss, "compile", traced)
    torch._dynamo.reset()
    counters = torch._dynamo.utils.counters
    counters.clear()
    graphs: list[int] = []
    config = TrainingConfig(epochs=3, batch_size=36, compile="default", precision="fp32")  # batches of 36, 36 and 24
    torch.manual_seed(5)
    train(
        create_model("abn_cifar_resnet8", num_classes=3, width=4),
        stripes(),
        stripes(9, augment=False),
        config,
        tmp_path,
        validation_set=stripes(8, augment=False),
        log=lambda line: None,
        metrics=lambda row: graphs.append(counters["stats"]["unique_graphs"]),
    )
    assert graphs[0] in (1, 2)
    assert graphs == [graphs[0]] * 3
    assert not counters["graph_break"]

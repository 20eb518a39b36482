"""Two processes with a part of the batch each against one with all of it."""

import copy
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from abn_fast.modules import AttentionHead, LogMapAttentionHead, NormReluPool
from tests.modules._plain_head import make_head

PROCESSES = 2
TIMEOUT = timedelta(seconds=30)
BATCH = 6
SPLITS = {"even": [3, 3], "uneven": [1, 5]}
Results = dict[str, Tensor]


def modules() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    return {
        "head": make_head(AttentionHead),
        "head without bn1": make_head(AttentionHead, pre_norm=False),
        "log map": make_head(LogMapAttentionHead),
        "pool": NormReluPool(6).double(),
    }


def inputs(module: nn.Module) -> list[Tensor]:
    torch.manual_seed(1)
    batch = [torch.randn(BATCH, 6, 4, 5, dtype=torch.float64) + 1, torch.randn(BATCH, 5, 4, 5, dtype=torch.float64)]
    return batch[:1] if isinstance(module, NormReluPool) else batch


def step(module: nn.Module, batch: list[Tensor]) -> Results:
    """Outputs, gradients of a sum over images, and buffers."""
    batch = [x.clone().requires_grad_() for x in batch]
    outputs = module(*batch)
    outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
    sum((output.cos() * (1 + output.detach())).sum() for output in outputs).backward()  # type: ignore[union-attr]
    results = {f"output {i}": output.detach() for i, output in enumerate(outputs)}
    for i, x in enumerate(batch):
        assert x.grad is not None
        results[f"gradient of input {i}"] = x.grad
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        results[f"gradient of {name}"] = parameter.grad.clone()
    return results | {name: buffer.clone() for name, buffer in module.named_buffers()}


def far_from_zero() -> Tensor:
    torch.manual_seed(2)
    return torch.randn(BATCH, 3, 8, 8) * 0.1 + 200


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", f"file://{folder}/meeting", TIMEOUT, world_size=PROCESSES, rank=rank)
    results = {}
    for split, sizes in SPLITS.items():
        for name, module in modules().items():
            synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(module)
            part = [x.split(sizes)[rank] for x in inputs(module)]
            results[f"{split} {name}"] = step(synchronised, part)
            evaluation = step(synchronised.eval(), part)
            results[f"{split} {name} in evaluation"] = {k: v for k, v in evaluation.items() if k.startswith("output")}
    pool = nn.SyncBatchNorm.convert_sync_batchnorm(NormReluPool(3))
    pool.bn.momentum = 1.0
    pool(far_from_zero().chunk(PROCESSES)[rank])
    results["far from zero"] = dict(pool.named_buffers())
    torch.save(results, Path(folder) / f"{rank}.pt")
    untracked = nn.SyncBatchNorm.convert_sync_batchnorm(NormReluPool(3).eval())
    untracked.bn = nn.SyncBatchNorm(3, track_running_stats=False).eval()
    if rank == 0:
        with suppress(RuntimeError):  # of a process that waits for the other one
            torch.save(untracked(far_from_zero()), Path(folder) / "untracked.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("processes")
    context = spawn(work, (str(path),), PROCESSES, join=False)
    assert context is not None
    context.join(timeout=40, grace_period=1)
    for process in context.processes:
        process.kill()
        process.join()
    return path


@pytest.fixture(scope="module")
def processes(folder: Path) -> list[dict[str, Results]]:
    return [torch.load(folder / f"{rank}.pt") for rank in range(PROCESSES)]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("name", ["head", "head without bn1", "log map", "pool"])
def test_two_processes_give_the_results_of_one(processes: list[dict[str, Results]], split: str, name: str) -> None:
    module = copy.deepcopy(modules()[name])
    expected = step(module, inputs(module))
    parts = [process[f"{split} {name}"] for process in processes]
    for key, value in expected.items():
        if key.startswith(("output", "gradient of input")):
            combined = torch.cat([part[key] for part in parts])
        elif key.startswith("gradient"):
            combined = sum((part[key] for part in parts[1:]), parts[0][key])
        else:
            assert torch.equal(parts[0][key], parts[1][key])
            combined = parts[0][key]
        torch.testing.assert_close(combined, value, rtol=1e-9, atol=1e-9)
    evaluation = step(module.eval(), inputs(module))
    for key in (key for key in evaluation if key.startswith("output")):
        combined = torch.cat([process[f"{split} {name} in evaluation"][key] for process in processes])
        torch.testing.assert_close(combined, evaluation[key], rtol=1e-9, atol=1e-9)


def test_a_mean_far_above_the_deviation_does_not_cancel_the_variance(processes: list[dict[str, Results]]) -> None:
    norm = nn.BatchNorm2d(3, momentum=1.0).double()
    norm(far_from_zero().double())
    for process in processes:
        buffers = process["far from zero"]
        torch.testing.assert_close(buffers["bn.running_var"].double(), norm.running_var, rtol=1e-3, atol=0)
        torch.testing.assert_close(buffers["bn.running_mean"].double(), norm.running_mean, rtol=1e-5, atol=0)


def test_a_process_may_evaluate_alone_without_running_statistics(folder: Path) -> None:
    assert (folder / "untracked.pt").exists()
    norm = nn.BatchNorm2d(3, track_running_stats=False).double().eval()
    expected = norm(far_from_zero().double()).relu().mean((2, 3))
    torch.testing.assert_close(torch.load(folder / "untracked.pt").double(), expected, rtol=1e-2, atol=1e-2)


def test_a_synchronised_head_in_one_process_is_the_plain_head() -> None:
    module = modules()["head"]
    synchronised = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(module))
    expected = step(module, inputs(module))
    for key, value in step(synchronised, inputs(module)).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-9, atol=1e-9)

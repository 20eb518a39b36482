"""Training in several processes on one machine, over gloo."""

import json
from pathlib import Path

import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn
from torch.nn.parallel import DistributedDataParallel

from abn_fast import AttentionBranchNetwork, create_model
from abn_fast.training import TrainingConfig
from abn_fast.training.optimizer import make_optimizer
from abn_fast.training.step import TrainingStep
from bench._compare import rotated
from bench.peers.published_network import PublishedNetwork, published_step

ROUNDS, LR = 5, 0.1


def step_times(name: str, processes: int, folder: Path) -> dict[str, list[float]]:
    """Seconds of each round of a training step on 16 images a process, ours and published, in the first process."""
    folder = folder / f"{processes} processes"
    folder.mkdir()
    spawn(_train, (name, processes, folder), nprocs=processes)
    found: dict[str, list[float]] = json.loads((folder / "times.json").read_text())
    return found


def _train(rank: int, name: str, processes: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=processes)
    torch.manual_seed(0)
    model = create_model(name, num_classes=10).train()
    assert isinstance(model, AttentionBranchNetwork)
    peer = DistributedDataParallel(PublishedNetwork(model).train())
    peer_optimizer = torch.optim.SGD(peer.parameters(), LR, momentum=0.9, weight_decay=5e-4)
    model.to(memory_format=torch.channels_last)
    config = TrainingConfig(compile="off", precision="fp32")
    step = TrainingStep(model, make_optimizer(model, config), config)
    torch.manual_seed(rank + 1)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 10
    turned = images.contiguous(memory_format=torch.channels_last)

    def ours() -> float:
        return step(0, turned, labels, LR).loss.item()

    def published() -> float:
        return published_step(peer, peer_optimizer, images, labels)

    first, theirs = ours(), published()
    assert abs(first - theirs) <= 0.05 * theirs, f"{first} and {theirs}"
    times = rotated({"ours": ours, "published": published}, ROUNDS, idle=0, untimed=False)
    if rank == 0:
        (folder / "times.json").write_text(json.dumps(times))
    dist.destroy_process_group()

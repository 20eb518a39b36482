import torch
import torch.distributed as dist
from torch import Tensor, nn

from abn_fast import kernels
from abn_fast.kernels import Statistics

Norm = nn.BatchNorm2d | nn.SyncBatchNorm


def uses_batch_statistics(norm: Norm) -> bool:
    return norm.training or norm.running_mean is None


def is_synchronised(norm: Norm) -> bool:
    if not (isinstance(norm, nn.SyncBatchNorm) and norm.training and dist.is_available() and dist.is_initialized()):
        return False
    return dist.get_world_size(norm.process_group) > 1


def uses_local_statistics(norm: Norm) -> bool:
    """Whether `norm` uses the statistics of the batch of this process alone."""
    return uses_batch_statistics(norm) and not is_synchronised(norm)


def statistics(norm: Norm, x: Tensor) -> Statistics:
    """The statistics that `norm` normalises x [N, C, H, W] with; running statistics are updated as `norm` would."""
    if not uses_batch_statistics(norm):
        return running_statistics(norm)
    batch = kernels.batch_statistics(x)
    count = x.numel() // x.shape[1]
    if not is_synchronised(norm):
        update_running_statistics(norm, batch, count)
        return batch
    batch, total = _reduce_over_processes(norm, batch, count)
    update_running_statistics(norm, batch, total)
    return batch


def running_statistics(norm: Norm) -> Statistics:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    return Statistics(norm.running_mean, norm.running_var)


def scale_shift(norm: Norm, batch: Statistics) -> tuple[Tensor, Tensor]:
    """`norm` as a line: norm(x) = scale * x + shift, [C] each."""
    return kernels.norm_scale_shift(norm.weight, norm.bias, batch, norm.eps)


@torch.no_grad()
def update_running_statistics(norm: Norm, batch: Statistics, count: int | Tensor) -> None:
    """Move the running statistics towards the batch's, the variance as its unbiased estimate over `count` values."""
    if not norm.training or norm.running_mean is None:
        return
    assert norm.running_var is not None
    assert norm.num_batches_tracked is not None
    norm.num_batches_tracked.add_(1)
    dtype = norm.running_mean.dtype
    momentum = 1 / norm.num_batches_tracked.to(dtype) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(batch.mean.to(dtype), momentum)
    norm.running_var.lerp_((batch.var * (count / (count - 1))).to(dtype), momentum)


def _reduce_over_processes(norm: Norm, batch: Statistics, count: int) -> tuple[Statistics, Tensor]:
    """Statistics over the batches of all processes, differentiable in each, and the count of their values."""
    from torch.distributed.nn.functional import all_reduce  # absent from builds of torch without torch.distributed

    group = getattr(norm, "process_group", None) or dist.group.WORLD
    sums = torch.cat([count * batch.mean, torch.full_like(batch.mean[:1], count)])
    reduced = all_reduce(sums, group=group)
    total = reduced[-1].detach()
    mean = reduced[:-1] / total
    # squares about the common mean: the difference of two large sums would cancel
    squares = all_reduce(count * (batch.var + (batch.mean - mean).square()), group=group)
    return Statistics(mean, squares / total), total

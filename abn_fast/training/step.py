from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from abn_fast._errors import AbnFastError
from abn_fast.training.config import LossConfig, TrainingConfig
from abn_fast.training.device import autocast, chosen_precision
from abn_fast.training.distributed import world_size
from abn_fast.training.objective import Output, loss_of, loss_with_edited_maps


class StepResult(NamedTuple):
    """What a step leaves for the tally."""

    loss: Tensor
    output: Output


class TrainingStep:
    """Forward, backward and update, without waiting for the device.

    Where a loss or gradient is not finite, neither that step nor any later one changes the weights; `failed_step`
    tells the first such step, on the device, -1 while there is none.

    Args:
        model: on its device.
        optimizer: a fused one, which skips its update where `found_inf` is set.
        config: how to train.
        edited_maps: whether the last two channels of the images are those of `abn_fast.data.EditedMaps`.
    """

    def __init__(
        self, model: nn.Module, optimizer: Optimizer, config: TrainingConfig, edited_maps: bool = False
    ) -> None:
        self.model, self.optimizer, self.config = model, optimizer, config
        self.device = next(model.parameters()).device
        self.precision = chosen_precision(self.device, config.precision)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")
        self.failed_step = torch.full((), -1, dtype=torch.int64, device=self.device)
        self._parameters = [each for group in optimizer.param_groups for each in group["params"]]
        self._network: Any = (_NetworkAndMapLoss if edited_maps else _NetworkAndLoss)(model, config.loss)
        mode = compile_mode(config, self.device)
        if mode != "off":
            torch.compiler.reset()  # what it has seen of other runs would make sizes symbols and count to its limit
            self._network.compile(fullgraph=True, mode=None if mode == "default" else mode)
        if world_size() > 1:
            for each in self._parameters:
                _keep_strides(each)
            self._network = DistributedDataParallel(self._network)

    def __call__(self, step: int, images: Tensor, target: Tensor, lr: float, share: float = 1.0) -> StepResult:
        """One update.

        Args:
            step: its number.
            images: [N, 3, H, W] on the device.
            target: on the device.
            lr: learning rate.
            share: weight of this process's mean loss: its images times the processes over all images of the step.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.zero_grad()
        parts = min(self.config.accumulation_steps, len(images))
        results = [
            self._forward_backward(*part, share * len(part[0]) / len(images), last=index == parts - 1)
            for index, part in enumerate(_parts(images, target, parts))
        ]
        loss = torch.stack([loss for loss, _ in results]).sum()
        self._update(step, loss)
        return StepResult(loss / share, _joined([output for _, output in results]))

    def _forward_backward(self, images: Tensor, target: Tensor, share: float, last: bool) -> tuple[Tensor, Output]:
        with self._synchronised(last):
            with autocast(self.device, self.precision):
                loss, output = self._network(images, target)
            loss = loss * share
            if self.scaler.is_enabled():  # which skips an update for its gradients alone
                loss = loss * torch.where(self.failed_step < 0, 1.0, torch.nan)
            self.scaler.scale(loss).backward()
        return loss.detach(), output

    def _update(self, step: int, loss: Tensor) -> None:
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.get_total_norm([each.grad for each in self._parameters if each.grad is not None])
        if self.config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self._parameters, self.config.clip_norm, norm)
        overflow = ~norm.isfinite()
        if self.scaler.is_enabled():  # it skips the update and scales less, which helps as long as it scales
            overflow &= self.scaler.scale(torch.ones_like(loss)) <= 1
        finite = loss.isfinite() & ~overflow
        first = (self.failed_step < 0) & ~finite
        self.failed_step = torch.where(first, torch.full_like(self.failed_step, step), self.failed_step)
        if self.scaler.is_enabled():
            self.scaler.step(self.optimizer)
            self.scaler.update()
        else:
            self.optimizer.found_inf = (self.failed_step >= 0).float()  # type: ignore[attr-defined]  # fused ones read it
            self.optimizer.step()

    @contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Gradients are averaged over the processes with the last part of a batch alone."""
        if last or not isinstance(self._network, DistributedDataParallel):
            yield
        else:
            with self._network.no_sync():
                yield


class _NetworkAndLoss(nn.Module):
    def __init__(self, network: nn.Module, config: LossConfig) -> None:
        super().__init__()
        self.network, self._config = network, config

    def forward(self, images: Tensor, target: Tensor) -> tuple[Tensor, Output]:
        output = self.network(images)
        return loss_of(output, target, self._config), output


class _NetworkAndMapLoss(_NetworkAndLoss):
    def forward(self, images: Tensor, target: Tensor) -> tuple[Tensor, Output]:
        output = self.network(images[:, :-2].contiguous(memory_format=torch.channels_last))
        return loss_with_edited_maps(output, target, images[:, -2:], self._config), output


def _keep_strides(parameter: Tensor) -> None:
    """Give a 1x1 kernel's gradient its strides, of which two kinds describe one layout: DDP compares the numbers."""
    if parameter.ndim == 4 and parameter.shape[2:] == (1, 1) and parameter.is_contiguous():
        parameter.register_hook(partial(_with_strides, strides=parameter.stride()))


def _with_strides(gradient: Tensor, strides: tuple[int, ...]) -> Tensor:
    same = gradient.stride() == strides or not gradient.is_contiguous()
    return gradient if same else gradient.as_strided(gradient.shape, strides)


def compile_mode(config: TrainingConfig, device: torch.device) -> str:
    """The mode of torch.compile: what the configuration says, or what pays on the device.

    Raises:
        AbnFastError: "reduce-overhead" where CUDA graphs are not safe: the next part of a batch overwrites a graph's
            gradients, and processes together write each other's running statistics between two replays.
    """
    if config.compile == "auto":
        return "default" if device.type == "cuda" else "off"
    if config.accumulation_steps == 1 and world_size() == 1:
        return config.compile
    if config.compile == "reduce-overhead":
        raise AbnFastError(
            "compile='reduce-overhead' is for one process and accumulation_steps=1, where CUDA graphs are safe: use "
            "compile='default'"
        )
    return "max-autotune-no-cudagraphs" if config.compile == "max-autotune" else config.compile


def _parts(images: Tensor, target: Tensor, count: int) -> Iterator[tuple[Tensor, Tensor]]:
    yield from zip(images.tensor_split(count), target.tensor_split(count), strict=True)


def _joined(outputs: list[Output]) -> Output:
    first = outputs[0]
    if len(outputs) == 1:
        return first
    if isinstance(first, Tensor):
        return torch.cat(outputs)  # type: ignore[arg-type]  # all are as the first
    return type(first)(*(torch.cat(parts) for parts in zip(*outputs, strict=True)))

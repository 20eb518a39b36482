import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast._errors import AbnFastError


class TaskClassifier(nn.Module):
    """A linear layer of two answers, no and yes, for each of T tasks, after layers that they share.

    Args:
        shared: [N, F] -> [N, F'].
        in_features: F'.
        num_tasks: T.
    """

    def __init__(self, shared: nn.Module, in_features: int, num_tasks: int) -> None:
        super().__init__()
        self.shared = shared
        self.tasks = _TaskLinear(in_features, num_tasks)

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits [N, T, 2] of pooled features [N, F] that all tasks share."""
        weight, bias = self.tasks.weight.flatten(0, 1), self.tasks.bias.flatten()
        logits: Tensor = F.linear(self.shared(pooled), weight, bias).unflatten(1, (-1, 2))
        return logits

    def of_each_task(self, pooled: Tensor, batch: int, tasks: slice) -> Tensor:
        """Logits [N, t, 2] of pooled features [N * t, F], those of an image's tasks in a row."""
        x: Tensor = self.shared(pooled).unflatten(0, (batch, -1)).transpose(0, 1)  # [t, N, F']
        weight, bias = self.tasks.weight[tasks], self.tasks.bias[tasks]
        return (x @ weight.transpose(1, 2) + bias[:, None]).transpose(0, 1)

    def reset_tasks(self, num_tasks: int) -> nn.Module:
        """Replace the tasks' layer by a fresh one; returns it."""
        old = self.tasks
        new = _TaskLinear(old.weight.shape[2], num_tasks).to(device=old.weight.device, dtype=old.weight.dtype)
        self.tasks = new.train(old.training)
        return new


class _TaskLinear(nn.Module):
    """Weight [T, 2, F] and bias [T, 2], initialised as T linear layers."""

    def __init__(self, in_features: int, num_tasks: int) -> None:
        super().__init__()
        bound = 1 / math.sqrt(in_features)
        self.weight = nn.Parameter(torch.empty(num_tasks, 2, in_features).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(num_tasks, 2).uniform_(-bound, bound))


def task_classifier(classifier: nn.Module, num_tasks: int) -> TaskClassifier:
    """A classifier whose last linear layer makes way for one a task; it is used up."""
    name, old = _last_linear(classifier)
    return TaskClassifier(_replaced(classifier, name, nn.Identity()), old.in_features, num_tasks)


def reset_classes(classifier: nn.Module, num_classes: int) -> tuple[nn.Module, nn.Module]:
    """The classifier with a fresh last layer of `num_classes` classes or tasks, and that layer."""
    if isinstance(classifier, TaskClassifier):
        return classifier, classifier.reset_tasks(num_classes)
    name, old = _last_linear(classifier)
    new = nn.Linear(old.in_features, num_classes, old.bias is not None)
    new.to(device=old.weight.device, dtype=old.weight.dtype).train(old.training)
    return _replaced(classifier, name, new), new


def _last_linear(classifier: nn.Module) -> tuple[str, nn.Linear]:
    linears = [(name, module) for name, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise AbnFastError(f"{type(classifier).__name__} has no linear layer whose classes could be reset")
    return linears[-1]


def _replaced(classifier: nn.Module, name: str, new: nn.Module) -> nn.Module:
    if not name:
        return new
    parent, _, child = name.rpartition(".")
    setattr(classifier.get_submodule(parent), child, new)
    return classifier

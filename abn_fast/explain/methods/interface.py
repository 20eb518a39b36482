import contextlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.explain._evaluating import evaluating
from abn_fast.explain.methods.activations import Activations, activations_of
from abn_fast.explain.methods.class_evidence import class_evidence_of
from abn_fast.explain.methods.table import checked_method, checked_network
from abn_fast.explain.upsample import Mode, upsample
from abn_fast.modules import ImageNetwork


class Explanations(NamedTuple):
    """A prediction and what several methods say of it."""

    logits: Tensor
    """[N, K]; of a multi-task network [N, T, 2]."""
    targets: Tensor
    """The classes explained, [N]; of a multi-task network the answers, [N, T]."""
    maps: dict[str, Tensor]
    """By method, [N, H, W]; of a multi-task network [N, T, H, W]."""


class ClassEvidenceMaps(NamedTuple):
    """The classes that an image most likely shows, and where the attention branch finds each."""

    classes: Tensor
    """[N, k], likeliest first."""
    confidences: Tensor
    """Softmax probabilities of these, [N, k]."""
    maps: Tensor
    """[N, k, H, W] in [0, 1]."""


def explain(
    model: nn.Module, images: Tensor, targets: Tensor | None = None, *, method: str = "abn", mode: Mode = "bilinear"
) -> Tensor:
    """Where a network looks, by one of `METHODS`: maps in [0, 1], float32, at the size of the images.

    "abn" is the attention map as it is, a sigmoid, and the same for every class; the unbounded map of the published
    SE-ResNet is divided by its maximum. The other methods explain `targets`: a ReLU keeps what speaks for the class,
    which is resampled and then divided by its maximum; a map that is 0 everywhere stays so. CAM and Grad-CAM differ
    only where the classifier is not global average pooling and one linear layer, where CAM serves. The functions in
    `abn_fast.explain.methods` name the source of each and the layer it reads.

    The model evaluates and is left as it was: its modes, gradients and buffers. Under `torch.no_grad` and
    `torch.inference_mode` the methods that need a gradient still have it.

    Args:
        model: a network of this library, also of several tasks.
        images: [N, 3, H, W], preprocessed as the model takes them; they are moved to its device and dtype.
        targets: int64 [N], a class for each image; by default the predicted ones. Of a multi-task network, int64
            [N, T]: the answer of each task, 0 or 1.
        method: one of `METHODS`; `methods_of(model)` lists those that can serve a model.
        mode: how maps are resampled, see `upsample`.

    Returns:
        [N, H, W]; of a multi-task network one map a task, [N, T, H, W].

    Raises:
        AbnFastError: a method that is unknown or cannot serve the model, images or targets of another shape or out of
            range, a model not of this library, NaN in its maps.
    """
    [maps] = _explain(model, images, [method], targets, mode, None)[1].values()
    return maps


def explain_each(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor | None = None,
    *,
    mode: Mode = "bilinear",
    size: tuple[int, int] | None = None,
) -> Explanations:
    """`explain` by several methods, which share one forward pass, with the logits; `size` asks for another (H, W)."""
    activations, maps = _explain(model, images, methods, targets, mode, size)
    with _reading(activations.network):
        by_task = activations.by_task
        return Explanations(by_task(activations.logits), by_task(activations.targets), maps)


def top_class_evidence(
    model: nn.Module,
    images: Tensor,
    count: int = 5,
    *,
    mode: Mode = "bilinear",
    size: tuple[int, int] | None = None,
) -> ClassEvidenceMaps:
    """The class evidence of the `count` likeliest classes of each image.

    The maps of an image are divided by the largest value of them all, so that they can be compared with each other.

    Raises:
        AbnFastError: as `explain`; a count below 1 or above the number of classes.
    """
    network = checked_network(model)
    if not 1 <= count <= network.num_classes:
        raise AbnFastError(f"count={count}: expected 1 to {network.num_classes}, the number of classes")
    with _reading(network):
        checked_method(network, "class-evidence")
        activations = _activations(network, images, None)
        confidences, classes = activations.logits.float().softmax(1).topk(count)
        maps = class_evidence_of(activations, classes).float().flatten(0, 1)
        resampled = upsample(maps, size or _size(images), mode).unflatten(0, classes.shape)
        return ClassEvidenceMaps(classes, confidences, _share_of_maximum(resampled, (1, 2, 3)))


def _explain(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor | None,
    mode: Mode,
    size: tuple[int, int] | None,
) -> tuple[Activations, dict[str, Tensor]]:
    network, maps = checked_network(model), {}
    with _reading(network):
        chosen = {name: checked_method(network, name) for name in methods}
        activations = _activations(network, images, targets)
        for name, method in chosen.items():
            resampled = upsample(method.maps(activations).float(), size or _size(images), mode)
            bounded = method.is_bounded(network)
            maps[name] = activations.by_task(resampled.clamp(0, 1) if bounded else _share_of_maximum(resampled, (1, 2)))
    return activations, maps


@contextlib.contextmanager
def _reading(network: ImageNetwork) -> Iterator[None]:
    """The network in evaluation mode, without gradients but where a method asks for them."""
    with torch.inference_mode(False), torch.no_grad(), evaluating(network):
        yield


def _activations(network: ImageNetwork, images: Tensor, targets: Tensor | None) -> Activations:
    if images.ndim != 4 or 0 in images.shape or not images.is_floating_point():
        raise AbnFastError(
            f"images are {images.dtype} {list(images.shape)}: expected floating point [N, 3, H, W], preprocessed as "
            "the model takes them"
        )
    activations = activations_of(network, images.to(_weight(network)))
    if targets is None:
        return activations
    classes = network.num_classes if activations.tasks is None else 2
    expected = [len(images)] if activations.tasks is None else [len(images), activations.tasks]
    if list(targets.shape) != expected or targets.dtype != torch.int64:
        raise AbnFastError(f"targets are {targets.dtype} {list(targets.shape)}: expected torch.int64 {expected}")
    low, high = (int(bound) for bound in targets.aminmax())
    if low < 0 or high >= classes:
        raise AbnFastError(f"targets in [{low}, {high}]: expected 0 to {classes - 1}")
    return activations_of(network, activations.images, targets.flatten().to(activations.images.device))


def _size(images: Tensor) -> tuple[int, int]:
    return images.shape[-2], images.shape[-1]


def _weight(network: ImageNetwork) -> Tensor:
    return next(weight for weight in network.parameters() if weight.is_floating_point())


def _share_of_maximum(maps: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Each map over its maximum, without what an overshooting resampling put below 0."""
    maps = maps.clamp(min=0)
    highest = maps.amax(dims, keepdim=True)
    return maps / highest.where(highest > 0, 1)

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.data import ImageDataset, as_image_dataset
from abn_fast.explain import energy_in_box, inverted, pointing_game, upsample
from abn_fast.modules import ABNOutput, ImageNetwork, TaskClassifier
from abn_fast.training import distributed
from abn_fast.training._feed import Batch, image_loader, moved
from abn_fast.training.config import LossConfig, Precision
from abn_fast.training.device import autocast
from abn_fast.training.objective import Output, Tally, loss_of


def evaluate(
    model: ImageNetwork,
    dataset: Dataset[Any],
    *,
    batch_size: int = 128,
    precision: Precision = "auto",
    workers: int = 0,
    progress: bool = False,
) -> dict[str, float]:
    """Mean loss and top-1 accuracies (%) of a model on a data set; with boxes, how well the map finds them.

    The scores of the map are percentages too: "pointing_game" and "energy" (see `abn_fast.explain`), and
    "inverted_pointing_game" of the inverted map, a control. A multi-task network has "accuracy", the mean over the
    tasks, and "accuracy.NAME" of each.

    Under torchrun every process evaluates its share of the images, each once, and all return the same.

    Args:
        model: a network, on its device.
        dataset: any that `as_image_dataset` takes.
        batch_size: images that pass through the model together.
        precision: in which it computes; "auto" is bf16 where the device computes in it, else "fp32".
        workers: processes that load images.
        progress: show a bar on a terminal.

    Raises:
        AbnFastError: the data set is empty or has another number of classes than the model.
        UnreadableImageError: an image cannot be read; the message names it.
    """
    dataset = as_image_dataset(dataset)
    check_classes(model, dataset)
    device = next(model.parameters()).device
    tally, hits = make_tally(model, dataset), _MapScores(device)
    own = range(distributed.rank(), len(dataset), distributed.world_size())
    batches = [list(own[start : start + batch_size]) for start in range(0, len(own), batch_size)]
    loader = image_loader(dataset, workers, batches)
    with torch.inference_mode(), tqdm(total=len(own), unit="img", disable=None if progress else True) as bar:
        for indices, (images, output, target) in zip(
            batches, _outputs(model, moved(loader, device), precision), strict=True
        ):
            tally.add(loss_of(output, target, LossConfig()), output, target)
            if isinstance(output, ABNOutput) and dataset.boxes is not None:
                hits.add(output.attention, dataset.boxes[indices], images.shape[-2:])
            bar.update(len(images))
    return tally.means() | hits.means()


def make_tally(model: ImageNetwork, dataset: ImageDataset, sums: Sequence[float] | None = None) -> Tally:
    """A tally of a model's predictions on a data set."""
    tasks = dataset.classes if dataset.task == "multi-label" else []
    return Tally(next(model.parameters()).device, tasks, has_attention(model), sums)


def check_classes(model: ImageNetwork, dataset: ImageDataset) -> None:
    """Refuse a data set that is empty or whose classes are not the model's."""
    if len(dataset) == 0:
        raise AbnFastError("the data set is empty")
    if len(dataset.classes) != model.num_classes:
        raise AbnFastError(
            f"the data set has {len(dataset.classes)} classes and the model {model.num_classes}: "
            "take the data that it was trained on, or call model.reset_classifier and train"
        )
    tasks = isinstance(model.get_classifier(), TaskClassifier)
    if tasks != (dataset.task == "multi-label"):
        wanted = "one class an image: use a model without" if tasks else "any number of attributes: use a model with"
        raise AbnFastError(f'the data set has {wanted} "multi_task_" in front of its name')


def has_attention(model: nn.Module) -> bool:
    """Whether the model returns attention logits and a map."""
    return hasattr(model, "attention_branch")


def _outputs(
    model: ImageNetwork, batches: Iterator[Batch], precision: Precision
) -> Iterator[tuple[Tensor, Output, Tensor]]:
    was_training = model.training
    model.eval()
    try:
        for images, target in batches:
            with autocast(images.device, precision):
                output = model(images)
            yield images, output, target
    finally:
        model.train(was_training)


class _MapScores:
    """Sums of the scores of the maps of all images."""

    NAMES = ("pointing_game", "energy", "inverted_pointing_game")

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(1 + len(self.NAMES), dtype=torch.float64, device=device)

    def add(self, attention: Tensor, boxes: Tensor, size: torch.Size) -> None:
        maps = upsample(attention.float(), (size[0], size[1])).cpu()
        scores = (pointing_game(maps, boxes), energy_in_box(maps, boxes), pointing_game(inverted(maps), boxes))
        sums = torch.stack([each.double().sum() for each in scores])
        self._sums += torch.cat([torch.tensor([float(len(boxes))]), sums]).to(self._sums.device)

    def means(self) -> dict[str, float]:
        images, *sums = distributed.sum_over_processes(self._sums).tolist()
        return {name: 100 * value / images for name, value in zip(self.NAMES, sums, strict=True)} if images else {}

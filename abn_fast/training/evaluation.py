from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from tqdm import tqdm

from abn_fast._errors import AbnFastError
from abn_fast.data import ImageDataset
from abn_fast.explain import energy_in_box, inverted, pointing_game, upsample
from abn_fast.modules import ABNOutput, ImageNetwork
from abn_fast.training.config import Precision, TrainingConfig
from abn_fast.training.device import autocast
from abn_fast.training.objective import Tally, loss_of


def evaluate(
    model: ImageNetwork,
    dataset: ImageDataset,
    *,
    batch_size: int = 128,
    precision: Precision = "auto",
    workers: int = 0,
    progress: bool = False,
) -> dict[str, float]:
    """Mean loss and top-1 accuracies (%) of a model on a data set; with boxes, how well the map finds them.

    The scores of the map are percentages too: "pointing_game" and "energy" (see `abn_fast.explain`), and
    "inverted_pointing_game" of the inverted map, a control.

    Raises:
        AbnFastError: the data set is empty or has another number of classes than the model.
    """
    check_classes(model, dataset)
    device = next(model.parameters()).device
    tally, hits = Tally(device), _MapScores()
    loader = image_loader(dataset, batch_size, workers)
    start = 0
    with torch.inference_mode(), tqdm(total=len(dataset), unit="img", disable=None if progress else True) as bar:
        for images, output, target in _outputs(model, loader, device, precision):
            tally.add(loss_of(output, target, TrainingConfig()), output, target)
            if isinstance(output, ABNOutput) and dataset.boxes is not None:
                hits.add(output.attention, dataset.boxes[start : start + len(images)], images.shape[-2:])
            start += len(images)
            bar.update(len(images))
    return tally.means(has_attention(model)) | hits.means()


def image_loader(
    dataset: ImageDataset, batch_size: int, workers: int = 0, sampler: Sampler[int] | None = None
) -> "DataLoader[tuple[Tensor, int]]":
    """Batches of a data set; unlike torch's default it leaves the global random state alone."""
    return DataLoader(dataset, batch_size, sampler=sampler, num_workers=workers, generator=torch.Generator())


def check_classes(model: ImageNetwork, dataset: ImageDataset) -> None:
    """Refuse a data set that is empty or whose classes are not the model's."""
    if len(dataset) == 0:
        raise AbnFastError("the data set is empty")
    if len(dataset.classes) != model.num_classes:
        raise AbnFastError(
            f"the data set has {len(dataset.classes)} classes and the model {model.num_classes}: "
            "take the data that it was trained on, or call model.reset_classifier and train"
        )


def has_attention(model: nn.Module) -> bool:
    """Whether the model returns attention logits and a map."""
    return hasattr(model, "attention_branch")


def _outputs(
    model: ImageNetwork, loader: DataLoader[tuple[Tensor, int]], device: torch.device, precision: Precision
) -> Iterator[tuple[Tensor, ABNOutput | Tensor, Tensor]]:
    was_training = model.training
    model.eval()
    try:
        for images, target in loader:
            images = images.to(device, memory_format=torch.channels_last)
            with autocast(device, precision):
                output = model(images)
            yield images, output, target.to(device)
    finally:
        model.train(was_training)


class _MapScores:
    """The scores of the maps of all images."""

    def __init__(self) -> None:
        self._scores: dict[str, list[Tensor]] = {}

    def add(self, attention: Tensor, boxes: Tensor, size: torch.Size) -> None:
        maps = upsample(attention.float(), (size[0], size[1])).cpu()
        scores = {
            "pointing_game": pointing_game(maps, boxes),
            "energy": energy_in_box(maps, boxes),
            "inverted_pointing_game": pointing_game(inverted(maps), boxes),
        }
        for name, values in scores.items():
            self._scores.setdefault(name, []).append(values.float())

    def means(self) -> dict[str, float]:
        return {name: 100 * torch.cat(values).mean().item() for name, values in self._scores.items()}

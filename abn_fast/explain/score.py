import time
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from abn_fast._checks import checked_choice, checked_whole
from abn_fast._errors import AbnFastError
from abn_fast.data import ImageDataset
from abn_fast.explain._evaluating import evaluating
from abn_fast.explain.methods import METHODS, explain, methods_of
from abn_fast.explain.metrics._faithfulness import Classify, check_faithfulness_inputs, probability
from abn_fast.explain.metrics._order import places
from abn_fast.explain.metrics.confidence import change_from
from abn_fast.explain.metrics.controls import centre_gaussian, random_maps
from abn_fast.explain.metrics.energy_in_box import energy_in_box
from abn_fast.explain.metrics.insertion_deletion import STEPS, blurred, replacement_area
from abn_fast.explain.metrics.inverted import inverted
from abn_fast.explain.metrics.iou import best_of, iou_at, thresholds
from abn_fast.explain.metrics.pointing_game import pointing_game
from abn_fast.explain.metrics.road import road
from abn_fast.explain.upsample import Mode
from abn_fast.modules import TaskClassifier

BOX_METRICS = ("pointing-game", "energy", "iou")
FAITHFULNESS_METRICS = ("deletion", "insertion", "road", "confidence")
METRICS = (*BOX_METRICS, *FAITHFULNESS_METRICS)


class Column(NamedTuple):
    """A figure of a method: percentages, but for the time."""

    title: str
    high_is_good: bool
    about: str


COLUMNS = {
    "pointing_game": Column("pointing game", True, "maps whose maximum lies in the box"),
    "energy": Column("energy", True, "share of the map's sum in the box, the map as it is"),
    "energy_above_half": Column("energy > 1/2", True, "the same of max(M - 1/2, 0)"),
    "iou": Column("IoU at 1/2", True, "overlap of box and mask, the map stretched and cut at one half"),
    "best_iou": Column("best IoU", True, "the same at the method's best threshold, chosen with the boxes"),
    "deletion": Column("deletion", False, "area under the probability while important pixels vanish first"),
    "insertion": Column("insertion", True, "area under the probability while important pixels come first"),
    "road": Column("ROAD", True, "half of: probability without the least important pixels, less without the most"),
    "average_drop": Column("average drop", False, "probability lost in map * image"),
    "increase": Column("increase", True, "images whose probability grows in map * image"),
    "milliseconds": Column("ms an image", False, "time of prediction and map"),
}
"""Every figure of a `MethodScores`, in the order of tables."""


class MethodScores(NamedTuple):
    """What a method, or a control, scored."""

    name: str
    """Of the method; of the control "random", "centre" or "inverted METHOD"."""
    scores: dict[str, float]
    """Means over the images, by the names of `COLUMNS`; percentages, and milliseconds an image."""
    is_control: bool


def score_methods(
    model: nn.Module,
    dataset: ImageDataset,
    methods: Sequence[str],
    *,
    metrics: Sequence[str] | None = None,
    mode: Mode = "bilinear",
    task: int | None = None,
    batch_size: int = 100,
    workers: int = 0,
    seed: int = 0,
    progress: bool = False,
) -> list[MethodScores]:
    """Scores of explanation methods on the images of a data set, beside three controls.

    Every map explains the class that the model predicts. The controls are random maps, a Gaussian on the centre and the
    first method's maps inverted. Metrics of location use the images whose box is known (`dataset.boxes` without NaN).

    Args:
        model: a network of this library, on its device.
        dataset: the images.
        methods: names of `METHODS`.
        metrics: of `METRICS`; by default all, without those that need boxes where there are none.
        mode: how maps are resampled, see `upsample`.
        task: number of the task whose maps are scored, for a multi-task network.
        batch_size: images at once.
        workers: processes that load images.
        seed: of random maps and of the noise in ROAD.
        progress: show a bar on a terminal.

    Returns:
        A row for each method, then for each control.

    Raises:
        AbnFastError: an unknown method or metric, a method that cannot serve the model, a metric of location without
            boxes, no task for a multi-task network, no images.
    """
    chosen = _chosen_metrics(metrics, dataset)
    _check_methods(model, methods)
    _check_task(model, task)
    checked_whole("batch_size", batch_size)
    if len(dataset) == 0:
        raise AbnFastError("the data set is empty")
    names = [*methods, "random", "centre", f"inverted {methods[0]}"]
    tallies = {name: _Tally() for name in names}
    device = next(model.parameters()).device
    classify = classifier_of(model, task)
    loader = DataLoader(dataset, batch_size=batch_size, num_workers=workers, generator=torch.Generator())
    start = 0
    with (
        evaluating(model),
        tqdm(total=len(dataset) * len(names), unit="map", disable=None if progress else True) as bar,
    ):
        for images, _ in loader:
            images = images.to(device, memory_format=torch.channels_last)
            boxes = None if dataset.boxes is None else dataset.boxes[start : start + len(images)].to(device)
            scene = _Scene(classify, images, boxes, chosen, seed + start)
            for name, maps, seconds in _maps_of(model, images, methods, scene.targets, mode, task, seed + start):
                tallies[name].add(scene.scores(maps))
                if seconds is not None:
                    tallies[name].add({"milliseconds": torch.full((len(images),), 1000 * seconds / len(images))})
                bar.update(len(images))
            start += len(images)
    return [MethodScores(name, tallies[name].means(), name not in methods) for name in names]


def classifier_of(model: nn.Module, task: int | None = None) -> Classify:
    """Images -> probabilities [N, K] of the model's prediction, or [N, 2] of no and yes for one task."""

    def classify(images: Tensor) -> Tensor:
        with torch.no_grad():
            output = model(images.contiguous(memory_format=torch.channels_last))
        logits = output if isinstance(output, Tensor) else output.logits
        return (logits if task is None else logits[:, task]).float().softmax(1)

    return classify


class _Scene:
    """A batch of images, and what all maps of it are scored with."""

    def __init__(self, classify: Classify, images: Tensor, boxes: Tensor | None, metrics: Sequence[str], seed: int):
        self.classify, self.images, self.boxes, self.metrics, self.seed = classify, images, boxes, metrics, seed
        with torch.no_grad():
            self.before, self.targets = classify(images).max(1)
            self.gone = torch.zeros_like(images)
            self.blurred = blurred(images)
            self.p_gone = self._probability(self.gone) if "deletion" in metrics else self.before
            self.p_blurred = self._probability(self.blurred) if "insertion" in metrics else self.before

    def _probability(self, images: Tensor) -> Tensor:
        return probability(self.classify, images, self.targets)

    @torch.no_grad()
    def scores(self, maps: Tensor) -> dict[str, Tensor]:
        """Of each image, by the names of `COLUMNS`; of the thresholds' overlaps a table."""
        check_faithfulness_inputs(self.images, maps, self.targets)
        return self._faithfulness(maps) | self._location(maps)

    def _faithfulness(self, maps: Tensor) -> dict[str, Tensor]:
        scores, order = {}, places(maps)
        if "deletion" in self.metrics:
            ends = (self.before, self.p_gone)
            area = replacement_area(self.classify, self.images, self.gone, order, self.targets, ends, STEPS)
            scores["deletion"] = 100 * area
        if "insertion" in self.metrics:
            ends = (self.p_blurred, self.before)
            area = replacement_area(self.classify, self.blurred, self.images, order, self.targets, ends, STEPS)
            scores["insertion"] = 100 * area
        if "road" in self.metrics:
            scores["road"] = 100 * road(self.classify, self.images, maps, self.targets, seed=self.seed)
        if "confidence" in self.metrics:
            change = change_from(self.before, self.classify, self.images, maps, self.targets)
            scores["average_drop"], scores["increase"] = 100 * change.drop, 100 * change.increase
        return scores

    def _location(self, maps: Tensor) -> dict[str, Tensor]:
        if self.boxes is None or not set(self.metrics).intersection(BOX_METRICS):
            return {}
        known = self.boxes.isfinite().all(1)
        maps, boxes, scores = maps[known], self.boxes[known], {}
        if not len(maps):
            return {}
        if "pointing-game" in self.metrics:
            scores["pointing_game"] = 100 * pointing_game(maps, boxes)
        if "energy" in self.metrics:
            scores["energy"] = 100 * energy_in_box(maps, boxes)
            scores["energy_above_half"] = 100 * energy_in_box((maps - 0.5).clamp(min=0), boxes)
        if "iou" in self.metrics:
            scores["iou"] = 100 * iou_at(maps, boxes, torch.tensor([0.5]))[:, 0]
            scores["best_iou"] = 100 * iou_at(maps, boxes, thresholds())  # [N, thresholds]
        return scores


class _Tally:
    """Scores of the images seen so far."""

    def __init__(self) -> None:
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, scores: dict[str, Tensor]) -> None:
        for name, values in scores.items():
            self._parts.setdefault(name, []).append(values.double().cpu())

    def means(self) -> dict[str, float]:
        whole = {name: torch.cat(parts) for name, parts in self._parts.items()}
        if "best_iou" in whole:
            whole["best_iou"] = best_of(whole["best_iou"]).iou
        return {name: float(whole[name].mean()) for name in COLUMNS if name in whole}


def _maps_of(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor,
    mode: Mode,
    task: int | None,
    seed: int,
) -> Iterator[tuple[str, Tensor, float | None]]:
    """Name, maps [N, H, W] and seconds of each method, then of the controls."""
    size, count = (images.shape[2], images.shape[3]), len(images)
    first = None
    for method in methods:
        began = time.perf_counter()
        maps = explain(model, images, targets if task is None else None, method=method, mode=mode)
        if images.is_cuda:
            torch.cuda.synchronize(images.device)
        seconds = time.perf_counter() - began
        maps = (maps if task is None else maps[:, task]).clamp(0, 1)  # bicubic resampling overshoots
        first = maps if first is None else first
        yield method, maps, seconds
    assert first is not None
    yield "random", random_maps(count, size, seed=seed).to(images.device), None
    yield "centre", centre_gaussian(count, size).to(images.device), None
    yield f"inverted {methods[0]}", inverted(first), None


def _chosen_metrics(metrics: Sequence[str] | None, dataset: ImageDataset) -> tuple[str, ...]:
    has_boxes = dataset.boxes is not None and bool(dataset.boxes.isfinite().all(1).any())
    if metrics is None:
        return METRICS if has_boxes else FAITHFULNESS_METRICS
    for name in metrics:
        checked_choice("metric", name, METRICS)
        if name in BOX_METRICS and not has_boxes:
            raise AbnFastError(
                f"metric {name!r} needs boxes and this data has none: use {', '.join(FAITHFULNESS_METRICS)}, "
                "digits-in-the-wild, CelebA with list_landmarks_align_celeba.txt, or NAME.xml beside each NAME.jpg"
            )
    if not metrics:
        raise AbnFastError(f"no metric: expected some of {', '.join(METRICS)}")
    return tuple(metrics)


def _check_methods(model: nn.Module, methods: Sequence[str]) -> None:
    if not methods:
        raise AbnFastError(f"no method: expected some of {', '.join(METHODS)}")
    for name in methods:
        checked_choice("method", name, METHODS)
    if len(set(methods)) < len(methods):
        raise AbnFastError(f"methods {', '.join(methods)}: one is named twice")
    possible = methods_of(model)
    for name in methods:
        if name not in possible:
            raise AbnFastError(f"method {name!r} cannot explain this {type(model).__name__}: {', '.join(possible)} can")


def _check_task(model: nn.Module, task: int | None) -> None:
    get_classifier: Callable[[], nn.Module] | None = getattr(model, "get_classifier", None)
    tasks = get_classifier is not None and isinstance(get_classifier(), TaskClassifier)
    if tasks and task is None:
        raise AbnFastError("a multi-task network has a map for each task: choose one with task (--task NAME)")
    if not tasks and task is not None:
        raise AbnFastError(f"task {task}: this network chooses one class and has no tasks")

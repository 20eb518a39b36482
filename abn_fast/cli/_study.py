"""The study: train, score, compare over seeds; each part is kept in a file and not done twice."""

import copy
import json
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abn_fast.cli._demo_recipe import BACKBONE, baseline_config, demo_config, trained

if TYPE_CHECKING:
    from torch import Tensor

    from abn_fast.data import DigitsInTheWild
    from abn_fast.modules import ImageNetwork
    from abn_fast.training import TrainingConfig

KINDS = {"abn": f"abn_{BACKBONE}", "baseline": BACKBONE}
AREA_WEIGHT = 0.3
TRAININGS: "dict[str, Callable[[TrainingConfig], TrainingConfig]]" = {
    "area-cost": lambda config: replace(config, loss=replace(config.loss, map_area_weight=AREA_WEIGHT)),
    "longer": lambda config: replace(config, epochs=2 * config.epochs),
}
"""What else may raise the energy, on the first seeds."""
TRAINING_SEEDS = 2
STABILITY_IMAGES = 200
SANITY_IMAGES = 100
SHEET_IMAGES = 8
SPEED_IMAGES = 128


@dataclass
class Study:
    """What the page is made of."""

    folder: Path
    settings: dict[str, Any]
    accuracy: dict[str, list[float]]
    """Top-1 of each seed, %, by kind."""
    scores: dict[str, list[dict[str, dict[str, float]]]]
    """By kind, for each seed: figures by the names of `COLUMNS`, by method or control."""
    variants: list[dict[str, dict[str, float]]]
    """For each seed: the same of other readings of the ABN's map."""
    trainings: dict[str, list[dict[str, float]]]
    """By way of training the ABN, for each of the first seeds: the same figures and top-1."""
    sanity: dict[str, list[list[tuple[str, float]]]]
    """By method of the ABN, for each seed: layer and likeness after cascading randomisation."""
    shift: dict[str, list[dict[str, float]]]
    """By kind, for each seed: agreement of maps under shifts, by method."""
    seeds: dict[str, dict[str, float]]
    """By kind: agreement of the seeds' maps, by method."""
    speed: dict[str, float]
    """Milliseconds an image, by what is computed."""
    machine: str


def run_study(folder: Path, seeds: int, epochs: int, train_images: int, test_images: int, images: int) -> Study:
    """Train and score what the folder lacks."""
    from abn_fast.data import DigitsInTheWild

    settings = {"seeds": seeds, "epochs": epochs, "train_images": train_images, "test_images": test_images}
    settings["images"] = images
    test_set = DigitsInTheWild("test", test_images)
    networks: dict[str, list[ImageNetwork]] = {kind: [] for kind in (*KINDS, *TRAININGS)}
    accuracy: dict[str, list[float]] = {kind: [] for kind in networks}
    for seed in range(seeds):
        train_set = DigitsInTheWild("train", train_images, seed)
        configs = {"abn": demo_config(epochs, seed), "baseline": baseline_config(demo_config(epochs, seed))}
        if seed < TRAINING_SEEDS:
            configs |= {kind: changed(configs["abn"]) for kind, changed in TRAININGS.items()}
        for kind, config in configs.items():
            name = KINDS.get(kind, KINDS["abn"])
            network, summary = trained(name, train_set, test_set, config, folder / f"{kind}-{seed}")
            networks[kind].append(network.eval())
            accuracy[kind].append(summary["test_top1"])
    part = test_set.select(range(images))
    scores: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    shift: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    variants: list[Any] = []
    sanity: dict[str, list[Any]] = {}
    for seed in range(seeds):
        for kind in KINDS:
            run = folder / f"{kind}-{seed}"
            network = networks[kind][seed]
            scores[kind].append(_kept(run / f"scores-{images}.json", partial(_scores, network, part)))
            shift[kind].append(_kept(run / "shift.json", partial(_shift, network, part)))
        network, run = networks["abn"][seed], folder / f"abn-{seed}"
        variants.append(_kept(run / f"variants-{images}.json", partial(_variants, network, part)))
        for method, layers in _kept(run / "sanity.json", partial(_sanity, network, part)).items():
            sanity.setdefault(method, []).append(layers)
    trainings = {
        kind: [
            _kept(folder / f"{kind}-{seed}" / f"location-{images}.json", partial(_location, network, part))
            | {"top1": accuracy[kind][seed]}
            for seed, network in enumerate(networks[kind][:TRAINING_SEEDS])
        ]
        for kind in ("abn", *TRAININGS)
    }
    networks = {kind: networks[kind] for kind in KINDS}
    agreements = _kept(folder / f"agreement-{seeds}.json", partial(_agreement, networks, part)) if seeds > 1 else {}
    speed = _kept(folder / "speed.json", partial(_speed, networks, part))
    _write_pictures(networks, test_set, folder)
    return Study(
        folder,
        settings,
        {kind: accuracy[kind] for kind in KINDS},
        scores,
        variants,
        trainings,
        sanity,
        shift,
        agreements,
        speed,
        _machine(),
    )


def _kept(path: Path, compute: Callable[[], Any]) -> Any:
    """What the JSON file holds; if there is none, it is computed and written."""
    from abn_fast.training.run import write_text

    if path.exists():
        return json.loads(path.read_text())
    click.echo(f"{path} ...")
    value = compute()
    write_text(path, json.dumps(value, indent=2) + "\n")
    return json.loads(json.dumps(value))


def _scores(network: "ImageNetwork", images: "DigitsInTheWild") -> dict[str, dict[str, float]]:
    from abn_fast.explain import methods_of
    from abn_fast.explain.score import score_methods

    return {row.name: row.scores for row in score_methods(network, images, methods_of(network), progress=True)}


def _location(network: "ImageNetwork", images: "DigitsInTheWild") -> dict[str, float]:
    """Of the attention map."""
    from abn_fast.explain import explain

    assert images.boxes is not None
    return _location_of(explain(network, images.batch(range(len(images)))[0]), images.boxes)


def _location_of(maps: "Tensor", boxes: "Tensor") -> dict[str, float]:
    from abn_fast.explain import energy_in_box, pointing_game
    from abn_fast.explain.metrics import best_iou, inverted

    return {
        "energy": 100 * float(energy_in_box(maps, boxes).mean()),
        "pointing_game": 100 * float(pointing_game(maps, boxes).float().mean()),
        "inverted_pointing_game": 100 * float(pointing_game(inverted(maps), boxes).float().mean()),
        "best_iou": 100 * float(best_iou(maps, boxes).iou.mean()),
    }


def _variants(network: "ImageNetwork", images: "DigitsInTheWild") -> dict[str, dict[str, float]]:
    """Other readings of the ABN's map, which need no retraining, by the metrics of location."""
    import torch

    from abn_fast.explain import explain

    assert images.boxes is not None
    pixels, boxes = images.batch(range(len(images)))[0], images.boxes
    maps = explain(network, pixels)
    low = maps.amin((1, 2), keepdim=True)
    middle = maps.flatten(1).median(1).values[:, None, None]
    readings = {
        "bilinear, as it is": maps,
        "nearest": explain(network, pixels, mode="nearest"),
        "bicubic, whose cut to [0, 1] ties maxima": explain(network, pixels, mode="bicubic"),
        "less its minimum, M - min M": maps - low,
        "squared, M²": maps**2,
        "odds, M / (1 - M)": maps / (1 - maps).clamp(min=1e-6),
        "above its median, max(M - median M, 0)": (maps - middle).clamp(min=0),
        "above one half, max(M - 1/2, 0)": (maps - 0.5).clamp(min=0),
        "strongest tenth of the pixels": (maps - torch.quantile(maps.flatten(1), 0.9, 1)[:, None, None]).clamp(min=0),
    }
    return {name: _location_of(each, boxes) for name, each in readings.items()}


def _sanity(network: "ImageNetwork", images: "DigitsInTheWild") -> dict[str, list[tuple[str, float]]]:
    """Of the maps for the class that the trained network predicts."""
    from abn_fast.explain import explain, methods_of
    from abn_fast.explain.metrics import cascading_randomization
    from abn_fast.explain.score import classifier_of

    pixels = images.batch(range(min(SANITY_IMAGES, len(images))))[0]
    predicted = classifier_of(network)(pixels).argmax(1)
    found = {}
    for method in methods_of(network):
        rows = cascading_randomization(network, partial(explain, targets=predicted, method=method), pixels)
        found[method] = [(row.layer, float(row.similarity.mean())) for row in rows]
    return found


def _shift(network: "ImageNetwork", images: "DigitsInTheWild") -> dict[str, float]:
    from abn_fast.explain import explain, methods_of
    from abn_fast.explain.metrics import shift_agreement

    pixels = images.batch(range(min(STABILITY_IMAGES, len(images))))[0]
    return {
        method: float(shift_agreement(partial(explain, network, method=method), pixels).mean())
        for method in methods_of(network)
    }


def _agreement(networks: "dict[str, list[ImageNetwork]]", images: "DigitsInTheWild") -> dict[str, dict[str, float]]:
    """Of the seeds' maps for the true class, so that all explain the same."""
    from abn_fast.explain import explain, methods_of
    from abn_fast.explain.metrics import agreement

    pixels, labels = images.batch(range(min(STABILITY_IMAGES, len(images))))

    def maps(network: "ImageNetwork", method: str) -> "Tensor":
        return explain(network, pixels, labels, method=method)

    return {
        kind: {
            method: float(agreement([maps(network, method) for network in each]).mean())
            for method in methods_of(each[0])
        }
        for kind, each in networks.items()
    }


def _speed(networks: "dict[str, list[ImageNetwork]]", images: "DigitsInTheWild") -> dict[str, float]:
    """Milliseconds an image, the fastest of several batches."""
    import torch

    from abn_fast.explain import explain, methods_of

    pixels = images.batch([index % len(images) for index in range(SPEED_IMAGES)])[0]
    pixels = pixels.contiguous(memory_format=torch.channels_last)

    def fastest(compute: Callable[[], Any], count: int = SPEED_IMAGES) -> float:
        seconds = []
        for _ in range(6):
            began = time.perf_counter()
            compute()
            seconds.append(time.perf_counter() - began)
        return 1000 * min(seconds) / count

    batch = min(demo_config(1, 0).batch_size, SPEED_IMAGES)
    found = {
        f"{kind}: a step of training": fastest(_training_step(each[0], pixels[:batch]), batch)
        for kind, each in networks.items()
    }
    with torch.inference_mode():
        for kind, each in networks.items():
            found[f"{kind}: prediction"] = fastest(partial(each[0], pixels))
            for method in methods_of(each[0]):
                found[f"{kind}: prediction and {method}"] = fastest(partial(explain, each[0], pixels, method=method))
    return found


def _training_step(network: "ImageNetwork", pixels: "Tensor") -> Callable[[], Any]:
    """A step as the study's, of a copy."""
    import torch

    from abn_fast.training.optimizer import make_optimizer
    from abn_fast.training.step import TrainingStep

    config = demo_config(1, 0)
    copied = copy.deepcopy(network).train()
    step = TrainingStep(copied, make_optimizer(copied, config), config)
    return partial(step, 0, pixels, pixels.new_zeros(len(pixels), dtype=torch.int64), config.optimizer.lr)


def _write_pictures(networks: "dict[str, list[ImageNetwork]]", test_set: "DigitsInTheWild", folder: Path) -> None:
    """Images with their boxes, beside the map of every method and of every seed."""
    from abn_fast.cli._study_sheet import write_sheet
    from abn_fast.explain import explain, methods_of

    count = min(SHEET_IMAGES, len(test_set))
    pixels, labels = test_set.batch(range(count))
    shown = test_set.preprocessing.denormalize(pixels)
    assert test_set.boxes is not None
    boxes = test_set.boxes[:count]
    methods = {
        f"{'ABN' if kind == 'abn' else 'plain'}: {method}": explain(each[0], pixels, labels, method=method)
        for kind, each in networks.items()
        for method in methods_of(each[0])
    }
    write_sheet(shown, boxes, methods, folder / "methods.png")
    seeds = {f"ABN, seed {seed}": explain(network, pixels) for seed, network in enumerate(networks["abn"])}
    write_sheet(shown, boxes, seeds, folder / "seeds.png")


def _machine() -> str:
    import torch

    return f"{platform.machine()}, {torch.get_num_threads()} threads, PyTorch {torch.__version__.split('+')[0]}"

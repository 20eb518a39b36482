"""The paper's tables: what was compared, the recipe of each cell, and the published figure.

Figures are top-1 errors in % of the paper (Fukui et al., CVPR 2019) and of its authors' code, whose best epoch was
chosen on the test set. None of them was reproduced here.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One network of a table."""

    row: str
    column: str
    recipe: str
    changes: tuple[str, ...] = ()
    published: float | None = None
    """Top-1 error, %, where it is known."""
    note: str = ""


def _pair(row: str, recipe: str, model: str, abn: float | None, plain: float | None, note: str = "") -> list[Cell]:
    """A backbone with and without its attention branch."""
    return [
        Cell(row, "plain", recipe, (f"model.name={model}",), plain, note),
        Cell(row, "ABN", recipe, (), abn, note),
    ]


def _gates(row: str, recipe: str, model: str) -> list[Cell]:
    return [
        Cell(row, "g", recipe, (f"model.name={model}",)),
        Cell(row, "g * M", recipe, ("model.arguments.gate=product",)),
        Cell(row, "g * (1 + M)", recipe, (), note="published: slightly better than g * M"),
    ]


def _cifar(data: str, figures: dict[str, tuple[float | None, float | None]]) -> list[Cell]:
    names = {
        "resnet110": "cifar_resnet110",
        "densenet_bc100_12": "densenet_bc100_12",
        "wide_resnet28_10": "wide_resnet28_10",
        "resnext29_8x64d": "resnext29_8x64d",
    }
    return [
        cell
        for row, model in names.items()
        for cell in _pair(row, f"{data}-{row}", model, *figures.get(row, (None, None)))
    ]


_IMAGENET = {50: (23.1, 24.1), 101: (21.8, 22.5), 152: (21.4, 22.2)}
_CARS = {("model", "vgg16"): 4.9, ("model", "resnet101"): 6.2, ("maker", "vgg16"): 2.0, ("maker", "resnet101"): 7.5}

TABLES: dict[str, list[Cell]] = {
    "gates": _gates("resnet110 on CIFAR-100", "cifar100-resnet110", "cifar_resnet110"),
    "cifar10": _cifar("cifar10", {"resnet110": (4.91, 6.43), "densenet_bc100_12": (4.17, 4.51)}),
    "cifar100": _cifar(
        "cifar100",
        {
            "resnet110": (22.5, 24.1),
            "densenet_bc100_12": (21.6, 22.5),
            "wide_resnet28_10": (18.1, 18.9),
            "resnext29_8x64d": (17.7, 18.3),
        },
    ),
    "svhn": _cifar("svhn", {}),
    "imagenet": [
        cell
        for depth, figures in _IMAGENET.items()
        for cell in _pair(f"resnet{depth}", f"imagenet-resnet{depth}", f"resnet{depth}", *figures)
    ],
    "cam": [
        Cell("vgg16 on ImageNet", "plain", "imagenet-resnet50", ("model.name=vgg16_bn", "optimizer.lr=0.01")),
        Cell("vgg16 on ImageNet", "CAM", "imagenet-resnet50", ("model.name=vgg16_bn_cam", "optimizer.lr=0.01")),
        Cell("vgg16 on ImageNet", "ABN", "imagenet-resnet50", ("model.name=abn_vgg16_bn", "optimizer.lr=0.01")),
    ],
    "se": [
        Cell("resnet152 on ImageNet", "plain", "imagenet-resnet152", ("model.name=resnet152",), 22.2),
        Cell("resnet152 on ImageNet", "SE", "imagenet-se_resnet152", ("model.name=se_resnet152",), 21.90),
        Cell("resnet152 on ImageNet", "ABN", "imagenet-resnet152", (), 21.4),
        Cell("resnet152 on ImageNet", "SE and ABN", "imagenet-se_resnet152", (), 20.77),
    ],
    "compcars": [
        cell
        for (target, backbone), gain in _CARS.items()
        for cell in _pair(
            f"{target}, {backbone}",
            f"compcars-{target}-{backbone}",
            backbone,
            None,
            None,
            f"published: ABN {gain} points of accuracy above plain",
        )
    ],
    "celeba": _pair(
        "40 attributes, resnet101",
        "celeba-resnet101",
        "multi_task_resnet101",
        None,
        None,
        "published: ABN 0.38 points of mean accuracy above plain, 27 of 40 attributes better",
    ),
}

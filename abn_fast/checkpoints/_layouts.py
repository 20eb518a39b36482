"""How the published code names and shapes what this library builds: one layout a family."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.models._imagenet_resnet import LAYERS
from abn_fast.models.cifar_resnet import default_block

Shapes = Mapping[str, tuple[int, ...]]
Rename = tuple[str, str]
"""A pattern of this library's state-dict keys and its published replacement."""


@dataclass(frozen=True)
class Layout:
    """One family of the published code."""

    family: str
    """Template of the model's name, without "abn_"."""
    tell_tale: str
    """A key that only this family's checkpoints have."""
    arguments: Callable[[Shapes], dict[str, Any]]
    """Reads `create_model`'s arguments off the keys and shapes."""
    renames: tuple[Rename, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    """Arguments that the published class does not offer, with the values it has."""

    def published_key(self, key: str) -> str:
        """The published name of one of our state-dict keys."""
        for pattern, replacement in (*_HEAD, *self.renames, (r"^extractor\.", "")):
            key = re.sub(pattern, replacement, key)
        return key


_HEAD: tuple[Rename, ...] = (
    (r"^attention_branch\.head\.(?:unused_)?bn1\.", "bn_att."),
    (r"^attention_branch\.head\.bn([23])\.", r"bn_att\1."),
    (r"^attention_branch\.head\.class_conv\.", "att_conv."),
    (r"^attention_branch\.head\.evidence_conv\.", "att_conv2."),
    (r"^attention_branch\.head\.map_conv\.", "att_conv3."),
)


def _stage(name: str, attention: str, classifier: str = "fc") -> tuple[Rename, ...]:
    return (
        (r"^perception_branch\.classifier\.", f"{classifier}."),
        (r"^perception_branch\.stage\.", f"{name}."),
        (r"^attention_branch\.stage\.", f"{attention}."),
    )


def _blocks(shapes: Shapes, stage: str) -> int:
    """Number of blocks whose keys start with `stage`, a pattern that ends before the block's index."""
    return len({match[0] for key in shapes if (match := re.match(rf"{stage}\d+\.", key))})


def _block_kind(shapes: Shapes) -> str:
    return "bottleneck" if "layer1.0.conv3.weight" in shapes else "basic"


def _cifar_resnet(shapes: Shapes) -> dict[str, Any]:
    depth, block = 6 * _blocks(shapes, r"layer1\.") + 2, _block_kind(shapes)
    arguments = {"depth": depth, "width": shapes["conv1.weight"][0]}
    return arguments if block == default_block(depth) else arguments | {"block": block}


def _imagenet_resnet(shapes: Shapes) -> dict[str, Any]:
    block = _block_kind(shapes)
    layers = tuple(_blocks(shapes, rf"layer{stage}\.") for stage in (1, 2, 3, 4))
    width = {"width": shapes["conv1.weight"][0]}
    for depth, known in LAYERS.items():
        if known == (block, layers):
            return {"depth": depth} | width
    return {"block": block, "layers": list(layers)} | width


def _se_resnet(shapes: Shapes) -> dict[str, Any]:
    reduced, channels = shapes["layer4.0.fc1.weight"]
    return _imagenet_resnet(shapes) | {"se_reduction": channels // reduced}


def _wide_resnet(shapes: Shapes) -> dict[str, Any]:
    return {
        "depth": 6 * _blocks(shapes, r"block1\.layer\.") + 4,
        "width": shapes["block1.layer.0.conv1.weight"][0] // 16,
    }


def _densenet(shapes: Shapes) -> dict[str, Any]:
    transitions = [shapes[f"trans{i}.conv1.weight"][:2] for i in (1, 2)]
    candidates = range(1, transitions[0][1] + 1)
    fitting = (c for c in candidates if all(inputs // c == outputs for outputs, inputs in transitions))
    compression = next(fitting, None)
    if compression is None:
        raise AbnFastError(f"no whole compression rate gives these transitions (out, in): {transitions}")
    return {
        "depth": 6 * _blocks(shapes, r"dense1\.") + 4,
        "growth": shapes["dense1.0.conv2.weight"][0],
        "compression": compression,
    }


def _resnext(shapes: Shapes) -> dict[str, Any]:
    width, base_width = shapes["stage_1.stage_1_bottleneck_0.conv_conv.weight"][:2]
    return {
        "depth": 9 * _blocks(shapes, r"stage_1\.stage_1_bottleneck_") + 2,
        "cardinality": width // base_width,
        "base_width": base_width,
    }


_IMAGENET = _stage("layer4", "att_layer4")

LAYOUTS = (
    Layout(
        "cifar_resnet{depth}",
        "att_layer3.0.conv1.weight",
        _cifar_resnet,
        _stage("layer3", "att_layer3"),
        fixed={"width": 16, "block": None},
    ),
    Layout(
        "se_resnet{depth}",
        "att_layer4.0.fc1.weight",
        _se_resnet,
        (*_IMAGENET, (r"\.se\.fc", ".fc")),
        fixed={"width": 64, "se_reduction": 16},
    ),
    Layout("resnet{depth}", "att_layer4.0.conv1.weight", _imagenet_resnet, _IMAGENET, fixed={"width": 64}),
    Layout(
        "wide_resnet{depth}_{width}",
        "att_block3.layer.0.conv1.weight",
        _wide_resnet,
        (
            *_stage("block3.layer", "att_block3.layer"),
            (r"^perception_branch\.pool\.bn\.", "bn1."),
            (r"^extractor\.(block\d)\.", r"\1.layer."),
            (r"\.shortcut\.", ".convShortcut."),
        ),
    ),
    Layout(
        "densenet_bc{depth}_{growth}",
        "att_dense3.0.conv1.weight",
        _densenet,
        (*_stage("dense3", "att_dense3"), (r"^perception_branch\.pool\.bn\.", "bn.")),
    ),
    Layout(
        "resnext{depth}_{cardinality}x{base_width}d",
        "stage_att.stage_att_bottleneck_0.conv_conv.weight",
        _resnext,
        (
            *_stage("stage_3", "stage_att", "classifier"),
            (r"^extractor\.conv1\.", "conv_1_3x3."),
            (r"^extractor\.bn1\.", "bn_1."),
            (r"^extractor\.layer(\d)\.", r"stage_\1."),
            (r"^(stage_\w+)\.(\d+)\.", r"\1.\1_bottleneck_\2."),
            (r"(_bottleneck_\d+)\.conv1\.", r"\1.conv_reduce."),
            (r"(_bottleneck_\d+)\.bn1\.", r"\1.bn_reduce."),
            (r"(_bottleneck_\d+)\.conv2\.", r"\1.conv_conv."),
            (r"(_bottleneck_\d+)\.bn2\.", r"\1.bn."),
            (r"(_bottleneck_\d+)\.conv3\.", r"\1.conv_expand."),
            (r"(_bottleneck_\d+)\.bn3\.", r"\1.bn_expand."),
            (r"\.downsample\.0\.", ".shortcut.shortcut_conv."),
            (r"\.downsample\.1\.", ".shortcut.shortcut_bn."),
        ),
        fixed={"base_width": 64},
    ),
)

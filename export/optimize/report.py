import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.branches import make_branches
from abn_fast.export.optimize.fold_convolution_norms import fold_convolution_norms
from abn_fast.export.optimize.fold_projection_norms import fold_projection_norms
from abn_fast.export.optimize.network import InferenceNetwork, check_network
from abn_fast.export.outputs import checked_outputs, network_outputs
from abn_fast.models._meta import image_channels, meta_copy, meta_tensor
from abn_fast.models._tracing import first_line
from abn_fast.modules import AttentionHead, ImageNetwork, LogMapAttentionHead, MultiTaskABN
from abn_fast.modules.attention_head import AttentionHeadOutput
from abn_fast.proofs._torch_traffic import TorchTraffic


class RewriteCost(NamedTuple):
    """What a forward pass costs after a rewrite and all those before it."""

    rewrite: str
    flops: int
    """Of convolutions and matrix products, a multiplication and an addition being two."""
    bytes: int
    """Read and written by every op, one after the other."""


def rewrite_costs(
    model: ImageNetwork,
    image_size: tuple[int, int],
    batch: int = 1,
    dtype: torch.dtype = torch.float16,
    outputs: Sequence[str] | None = None,
) -> list[RewriteCost]:
    """FLOPs and bytes of a network as published and after each rewrite of `optimize_for_inference`; none is computed.

    The first row is the paper's chain of layers: norms by themselves, evidence_conv on every pixel, a multi-task
    network's stage task by task.

    Args:
        model: any network of this library.
        image_size: (height, width) of the images, pixels.
        batch: images at a time.
        dtype: that the last row casts to.
        outputs: as of `optimize_for_inference`.

    Raises:
        AbnFastError: not a network of this library, an unknown output, or images that it does not take.
    """
    check_network(model)
    outputs = checked_outputs(model, outputs)
    network = meta_copy(model).float().eval().requires_grad_(False)
    images = meta_tensor((batch, image_channels(network), *image_size), network)
    rows: list[RewriteCost] = []

    def measure(rewrite: str, step: Callable[..., Any]) -> None:
        with torch.no_grad(), FlopCounterMode(display=False) as products, TorchTraffic() as traffic:
            step(images)
        rows.append(RewriteCost(rewrite, products.get_total_flops(), sum(traffic.bytes.values())))

    with _published(network):
        try:
            measure("as published", network)
        except Exception as error:  # whatever the model's own code raises
            height, width = image_size
            raise AbnFastError(
                f"the network does not take images of {height}x{width} pixels: {first_line(error)}"
            ) from None
    measure("GAP before evidence_conv, gate behind 1x1 convolutions", network)
    fold_convolution_norms(network)
    fold_projection_norms(network)
    measure("convolution norms folded", network)
    chosen, everything = outputs, tuple(name for name in network_outputs(model) if name != "class_evidence")
    whole = make_branches(copy.deepcopy(network), everything, torch.float32)
    measure("head norms folded", InferenceNetwork(whole, everything, torch.float32).float())
    inference = InferenceNetwork(make_branches(network, chosen, torch.float32), chosen, torch.float32).float()
    measure(f"only {', '.join(chosen)}", inference)
    if dtype != torch.float32:
        inference.dtype = dtype
        measure(f"{dtype}".removeprefix("torch."), inference.to(dtype))
    return rows


@contextmanager
def _published(network: ImageNetwork) -> Iterator[None]:
    """The paper's chain of layers in place of a network's equal but cheaper ones."""
    changed: list[nn.Module] = []
    for module in network.modules():
        published = {
            AttentionHead: _published_head,
            LogMapAttentionHead: _published_head,
            MultiTaskABN: _published_tasks,
        }
        for kind, forward in published.items():
            if isinstance(module, kind):
                module.forward = forward.__get__(module)
                changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.__dict__["forward"]


def _published_head(
    head: AttentionHead | LogMapAttentionHead, stage_output: Tensor, features: Tensor, attention: None = None
) -> AttentionHeadOutput:
    x = stage_output if head.bn1 is None else head.bn1(stage_output)
    evidence = F.relu(head.bn2(head.class_conv(x)))
    logits = head.evidence_conv(evidence).mean((2, 3))
    if isinstance(head, AttentionHead):
        drawn = torch.sigmoid(head.bn3(head.map_conv(evidence)))
    else:
        drawn = torch.log1p(evidence).sum(1, keepdim=True)
    return AttentionHeadOutput(logits, features * (1 + drawn), drawn)


def _published_tasks(network: MultiTaskABN, images: Tensor) -> tuple[Tensor, ...]:
    features = network.extractor(images)
    score = network.attention_branch(features)
    maps = torch.sigmoid(score)
    branch = network.perception_branch
    logits = []
    for task in range(network.num_classes):
        pooled = branch.forward_head(branch.stage(features * (1 + maps[:, task : task + 1])), pre_logits=True)
        classifier = cast(Any, branch.classifier)
        logits.append(classifier.of_each_task(pooled, images.shape[0], slice(task, task + 1)))
    return score.mean((2, 3)), torch.cat(logits, 1), maps

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor

from abn_fast import kernels
from abn_fast._errors import AbnFastError
from abn_fast.export.optimize.branches import AttentionBranches
from abn_fast.export.optimize.gate import gate_features
from abn_fast.export.outputs import ATTENTION, ATTENTION_LOGITS, CLASS_EVIDENCE, LOGITS
from abn_fast.export.proof import Proof
from abn_fast.export.proof.images import ProofImages
from abn_fast.export.proof.proof import Check
from abn_fast.export.proof.reference import Reference
from abn_fast.export.ranges import SizeRange, size_text
from abn_fast.export.runtimes.onnxruntime import ATTENTION_MASK, ATTENTION_OVERRIDE, OnnxRuntimeRunner
from abn_fast.export.served import ServedNetwork, output_of
from abn_fast.models._meta import image_channels, meta_copy
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork, LogMapAttentionHead


class EditableNetwork(ServedNetwork):
    """A served network that takes a map beside the images: M' = (1 - mask) * M + mask * override gates the features.

    Args:
        served: of an attention branch network, with logits and a map.
        map_size: (height, width) of its map.
    """

    def __init__(self, served: ServedNetwork, map_size: tuple[int, int]) -> None:
        super().__init__(served.network, served.outputs)
        self.more_inputs = {ATTENTION_OVERRIDE: (1, *map_size), ATTENTION_MASK: (1, *map_size)}

    def forward(
        self, images: Tensor, attention_override: Tensor | None = None, attention_mask: Tensor | None = None
    ) -> Any:
        """As `ServedNetwork.forward`, with the maps [N, 1, h, w] in the place of the network's own where mask is 1."""
        if attention_override is None or attention_mask is None:
            return super().forward(images)
        branches, dtype = cast(AttentionBranches, self.network.branches), self.network.dtype
        features = branches.extractor(images.to(dtype))
        result = branches.attention_head(branches.attention_stage(features), features)
        mask = attention_mask.to(dtype)
        attention = (1 - mask) * result.attention + mask * attention_override.to(dtype)
        assert branches.perception_branch is not None
        logits = branches.perception_branch(gate_features(features, attention, branches.attention_head.gate.gate))
        own = {ATTENTION: attention, LOGITS: logits}
        own |= {CLASS_EVIDENCE: result.class_evidence, ATTENTION_LOGITS: result.attention_logits}
        outputs = {name: value.to(kernels.accumulator(dtype)) for name, value in own.items() if value is not None}
        return self._output(*(output_of(name, outputs, images) for name in self.outputs))


def editable_network(model: ImageNetwork, served: ServedNetwork, size: SizeRange) -> EditableNetwork:
    """What a model is served as, with its map as an input.

    Raises:
        AbnFastError: the model has no single map in [0, 1], its logits or map are left out, or sizes vary.
    """
    if not isinstance(model, AttentionBranchNetwork) or isinstance(model.attention_branch.head, LogMapAttentionHead):
        raise AbnFastError("gate='editable' is of attention branch networks with one map, in [0, 1]")
    if not {LOGITS, ATTENTION} <= set(served.outputs):
        raise AbnFastError(f"gate='editable' with outputs {', '.join(served.outputs)}: it needs logits and attention")
    if not size.is_fixed:
        raise AbnFastError(
            f"gate='editable' fixes the size of the map and with it that of images: --size {size_text(size.best)}"
        )
    images = torch.empty(1, image_channels(model), *size.best, device="meta")
    with torch.no_grad():
        attention = meta_copy(model).eval().float()(images).attention
    return EditableNetwork(served, (attention.shape[2], attention.shape[3])).eval()


def with_edited_maps(proof: Proof, runner: OnnxRuntimeRunner, model: ImageNetwork, pictures: ProofImages) -> Proof:
    """The proof and a check more: given random maps over half of their pixels, the file is the network given those."""
    metadata = runner.metadata
    images = pictures.noise(metadata.batch.low, metadata.size.best)
    reference = Reference(model, metadata.outputs).model
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        own = reference(images).attention
        override = torch.rand(own.shape, generator=generator)
        mask = (torch.rand(own.shape, generator=generator) > 0.5).float()
        expected = reference(images, attention=torch.where(mask == 1, override, own))
    computed = dict(zip(metadata.outputs, runner.run_edited(images, override, mask), strict=True))
    shares = {
        name: float((computed[name] - getattr(expected, name)).abs().max() / getattr(expected, name).abs().max())
        for name in (LOGITS, ATTENTION)
    }
    found = ", ".join(f"{name} differ by {share:.0e}" for name, share in shares.items())
    check = Check("edited maps", found, all(share <= proof.tolerance for share in shares.values()))
    return replace(proof, checks=(*proof.checks, check))

import copy
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from abn_fast.export.outputs import ATTENTION, ATTENTION_LOGITS, CLASS_EVIDENCE, DERIVED, LOGITS
from abn_fast.export.served import output_of
from abn_fast.modules import AttentionBranchNetwork, ImageNetwork


class Reference(nn.Module):
    """A network's own forward in float32 as it was trained, nothing folded, and its outputs by name."""

    def __init__(self, model: ImageNetwork, outputs: Iterable[str]) -> None:
        super().__init__()
        self.model = copy.deepcopy(model).cpu().float().eval()
        self.outputs = tuple(outputs)
        self._seen: dict[str, Tensor] = {}
        if CLASS_EVIDENCE in (DERIVED.get(name, name) for name in self.outputs):
            assert isinstance(self.model, AttentionBranchNetwork)
            self.model.attention_branch.stage.register_forward_hook(self._see_evidence)

    @torch.inference_mode()
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """The outputs of images [N, C, H, W]."""
        output = self.model(images)
        results: dict[str, Tensor] = dict(self._seen)
        if isinstance(output, Tensor):
            results[LOGITS] = output
        else:
            results |= {name: getattr(output, name) for name in (ATTENTION_LOGITS, LOGITS, ATTENTION)}
        return {name: output_of(name, results, images) for name in self.outputs}

    def _see_evidence(self, stage: nn.Module, inputs: Any, stage_output: Tensor) -> None:
        assert isinstance(self.model, AttentionBranchNetwork)
        head = self.model.attention_branch.head
        normed = stage_output if head.bn1 is None else head.bn1(stage_output)
        self._seen[CLASS_EVIDENCE] = F.relu(head.bn2(head.class_conv(normed)))

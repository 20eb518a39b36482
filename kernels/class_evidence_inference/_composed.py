"""The same in two steps, each with a backward: torch's product, and the reduction of the class evidence."""

import torch
import torch.nn.functional as F
from torch import Tensor

from abn_fast import kernels
from abn_fast.kernels.reference import ClassEvidence, accumulator


def class_evidence(stage_output: Tensor, weight: Tensor, bias: Tensor, map_weight: Tensor | None) -> ClassEvidence:
    """Without map weights the log map."""
    z = F.conv2d(stage_output, weight, bias)
    one = torch.ones(len(weight), dtype=accumulator(z.dtype), device=z.device)
    zero = torch.zeros_like(one)
    if map_weight is None:
        return kernels.class_evidence_log_map_affine(z, one, zero)
    return kernels.class_evidence_affine(z, one, zero, map_weight)

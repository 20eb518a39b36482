"""The ops of an attention branch network: tensors in, tensors out; no modules, no models."""

from abn_fast.kernels.add_relu_pool import add_relu_pool
from abn_fast.kernels.attention_gate import attention_gate, gate_features
from abn_fast.kernels.attention_gate_from_taps import attention_gate_from_taps
from abn_fast.kernels.attention_head_inference import attention_head_inference
from abn_fast.kernels.batch_statistics import batch_statistics
from abn_fast.kernels.class_evidence import (
    class_evidence,
    class_evidence_affine,
    class_evidence_log_map,
    class_evidence_log_map_affine,
)
from abn_fast.kernels.class_evidence_inference import (
    class_evidence_inference,
    class_evidence_log_map_inference,
    class_evidence_taps_inference,
    fuses_inference,
)
from abn_fast.kernels.norm_class_conv import NormedClassConv, batch_norm_class_conv, norm_class_conv
from abn_fast.kernels.norm_relu_pool import norm_relu_pool, norm_relu_pool_affine
from abn_fast.kernels.reference import (
    ClassEvidence,
    Gate,
    Statistics,
    accumulator,
    compute_dtype,
    fold_norm,
    global_average_pool,
    map_taps,
    norm_scale_shift,
)

__all__ = [
    "ClassEvidence",
    "Gate",
    "NormedClassConv",
    "Statistics",
    "accumulator",
    "add_relu_pool",
    "attention_gate",
    "attention_gate_from_taps",
    "attention_head_inference",
    "batch_norm_class_conv",
    "batch_statistics",
    "class_evidence",
    "class_evidence_affine",
    "class_evidence_inference",
    "class_evidence_log_map",
    "class_evidence_log_map_affine",
    "class_evidence_log_map_inference",
    "class_evidence_taps_inference",
    "compute_dtype",
    "fold_norm",
    "fuses_inference",
    "gate_features",
    "global_average_pool",
    "map_taps",
    "norm_class_conv",
    "norm_relu_pool",
    "norm_relu_pool_affine",
    "norm_scale_shift",
]

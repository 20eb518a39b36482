"""A model in, a deployable file and its proof out."""

from abn_fast.export.metadata import Metadata
from abn_fast.export.onnx import export_onnx
from abn_fast.export.optimize import InferenceNetwork, RewriteCost, optimize_for_inference, rewrite_costs
from abn_fast.export.proof import Proof, ProofFailedError
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.export.session import InferenceSession
from abn_fast.export.tensorrt import export_tensorrt
from abn_fast.export.verify import verify

__all__ = [
    "BatchRange",
    "InferenceNetwork",
    "InferenceSession",
    "Metadata",
    "Proof",
    "ProofFailedError",
    "RewriteCost",
    "SizeRange",
    "export_onnx",
    "export_tensorrt",
    "optimize_for_inference",
    "rewrite_costs",
    "verify",
]

"""A trained network rewritten for inference."""

from abn_fast.export.optimize.network import InferenceNetwork, optimize_for_inference
from abn_fast.export.optimize.report import RewriteCost, rewrite_costs

__all__ = ["InferenceNetwork", "RewriteCost", "optimize_for_inference", "rewrite_costs"]

"""Model repositories of the NVIDIA Triton Inference Server; it has nothing to do with the language Triton."""

from abn_fast.export.triton_server.repository import write_model_repository

__all__ = ["write_model_repository"]

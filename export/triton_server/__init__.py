"""Model repositories of the NVIDIA Triton Inference Server; it has nothing to do with the language Triton."""

from abn_fast.export.triton_server.repository import server_backend, write_model_repository

__all__ = ["server_backend", "write_model_repository"]

"""A deployed file compared with the network it came from."""

from abn_fast.export.proof.images import ProofImages
from abn_fast.export.proof.proof import Check, Comparison, Proof, ProofFailedError
from abn_fast.export.proof.prove import prove

__all__ = ["Check", "Comparison", "Proof", "ProofFailedError", "ProofImages", "prove"]

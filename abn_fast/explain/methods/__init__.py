"""Ways to explain a prediction by a map, one a file; `explain` runs any of them."""

from abn_fast.explain.methods.interface import (
    ClassEvidenceMaps,
    Explanations,
    explain,
    explain_each,
    top_class_evidence,
)
from abn_fast.explain.methods.table import METHODS, methods_of

__all__ = [
    "METHODS",
    "ClassEvidenceMaps",
    "Explanations",
    "explain",
    "explain_each",
    "methods_of",
    "top_class_evidence",
]

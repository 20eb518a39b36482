from collections import Counter
from pathlib import Path
from typing import Any

from abn_fast._optional import require
from abn_fast.export.checksum import sha256


def onnx_summary(path: Path) -> dict[str, Any]:
    """Nodes, convolutions, bytes and checksum of an ONNX file."""
    onnx = require("onnx", extra="export", purpose="the summary of an ONNX file")
    kinds = Counter(node.op_type for node in onnx.load(path, load_external_data=False).graph.node)
    return {
        "nodes": kinds.total(),
        "convolutions": kinds["Conv"],
        "bytes": path.stat().st_size,
        "sha256": sha256(path),
    }

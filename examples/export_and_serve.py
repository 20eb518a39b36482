"""Write a checkpoint as ONNX, prove it, run it, and serve it over HTTP.

python examples/export_and_serve.py CHECKPOINT photo.jpg      needs pip install 'abn-fast[export,serve]'
"""

import argparse
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from abn_fast import InferenceSession
from abn_fast.checkpoints import read_checkpoint
from abn_fast.export import BatchRange, SizeRange, export_onnx


def main() -> None:
    """Read the command line, export, run, serve one request."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("photo", type=Path)
    parser.add_argument("--out", type=Path, default=Path("runs/model.onnx"))
    arguments = parser.parse_args()

    found = read_checkpoint(arguments.checkpoint)
    if found.preprocessing is None:
        parser.error(f"{arguments.checkpoint} does not say how pictures are preprocessed")
    proof = export_onnx(
        found.model,
        arguments.out,
        size=SizeRange.around(found.preprocessing.image_size),
        batch=BatchRange(1, 8, 64),
        preprocessing=found.preprocessing,
        classes=found.classes,
    )
    print(proof)

    session = InferenceSession(arguments.out)
    output = session(arguments.photo)
    best = int(output.logits[0].argmax())
    print(f"{session.provider}: {session.classes[best] if session.classes else best}, map {output.attention.shape}")

    command = [sys.executable, "-m", "abn_fast", "serve", str(arguments.out), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as server:
        try:
            assert server.stdout is not None
            address = next(found[1] for line in server.stdout if (found := re.search(r"(http://\S+)", line)))
            request = urllib.request.Request(f"{address}/predict?top=1&map=none", arguments.photo.read_bytes())
            with urllib.request.urlopen(request, timeout=60) as answer:
                print(f"{address}: {json.load(answer)['classes']}")
        finally:
            server.terminate()


if __name__ == "__main__":
    main()

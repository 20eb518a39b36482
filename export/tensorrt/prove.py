from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from abn_fast.export.proof import Proof, ProofImages, prove
from abn_fast.export.runtimes import RunnerOptions
from abn_fast.export.tensorrt.cuda import local_targets
from abn_fast.export.tensorrt.evidence import engine_checks
from abn_fast.export.tensorrt.flavour import Flavour
from abn_fast.export.tensorrt.runner import EngineRunner
from abn_fast.export.tensorrt.sidecar import Sidecar
from abn_fast.modules import ImageNetwork


def prove_engine(
    engine: Path,
    onnx: Path,
    sidecar: Sidecar,
    flavour: Flavour,
    model: ImageNetwork,
    compare_onnx: Callable[[], Proof],
    *,
    file: str,
    images: ProofImages | None = None,
    device: str | None = None,
) -> Proof:
    """The proof of an engine: on a card that it was built for it runs, elsewhere the ONNX file that it is made from.

    Args:
        engine: the file.
        onnx: that it was built from.
        sidecar: of the engine.
        flavour: likewise.
        model: that the files came from.
        compare_onnx: proves the ONNX file.
        file: name of the engine, for the report.
        images: to compare on.
        device: the card; None for the first.
    """
    checks = engine_checks(engine, onnx, sidecar, flavour)
    summary = {
        "bytes": engine.stat().st_size,
        "sha256": sidecar.engine_sha256,
        "targets": " ".join(sidecar.targets),
        "version": sidecar.version,
        "build_seconds": sidecar.build["seconds"],
        "onnx_sha256": sidecar.onnx_sha256,
    }
    if device is not None or set(sidecar.targets) & set(local_targets()[:1]):
        runner = EngineRunner(engine, sidecar, flavour, RunnerOptions(device=device))
        proof = prove(runner, model, file=file, images=images, summary=summary | {"engine_run": "yes"})
        return replace(proof, checks=checks)
    compared = compare_onnx()
    cards = f"for {', '.join(sidecar.targets)}"
    here = f"the card here is {local_targets()[0]}" if local_targets() else "there is no GPU here"
    notes = [*compared.notes]
    if sidecar.plugin is not None:
        notes.append(f"the kernel of {sidecar.plugin}, which the engine has, was compiled and not run either")
    note = f"the engine was built {cards} and not run: {here}. What was compared is the ONNX file it was built from"
    return replace(
        compared,
        file=file,
        provider=f"{compared.provider}, on its ONNX file; the engine was not run",
        summary=summary | {"engine_run": "no"},
        notes=(note, *notes),
        checks=checks,
    )

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from abn_fast.data import IMAGENET, Preprocessing
from abn_fast.export.metadata import Metadata
from abn_fast.export.outputs import ATTENTION, ATTENTION_UPSAMPLED, LOGITS, PROBABILITIES
from abn_fast.export.proof.images import ProofImages
from abn_fast.export.proof.proof import CALIBRATED, TIES, TOLERANCES, Comparison, Proof
from abn_fast.export.proof.reference import Reference
from abn_fast.export.ranges import Size, SizeRange, size_text
from abn_fast.export.runtimes import Runner
from abn_fast.modules import ImageNetwork

LEAST_MAP = 0.01
"""What the largest value of a map or of probabilities counts as at least: near 0 they are rounding noise."""
AGREEING = {"int8": 64, "fp8": 64}
"""Images of a size on which top classes are compared at least, by precision; by default the file's highest batch."""
UNTOUCHED = (
    "the network is untrained: its batch norms have seen no image (mean 0, variance 1), and what it computes only "
    "compares in fp32; train it first"
)
KEEP_MAP = "the layers that draw the map lose most in 8 bits: keep them in float32 (--keep-float map)"
CHUNK = 8
"""Images at a time through the source model, whatever the batch."""


def prove(
    runner: Runner,
    model: ImageNetwork,
    *,
    file: str,
    images: ProofImages | None = None,
    summary: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Proof:
    """Compare what a runner computes with a network's own float32 forward.

    At batch 1, 2 and the highest that the file states, at the best image size and, if sizes vary, a second one that is
    not square; on photographs and on noise. Classes agree if the runner's top class is the network's, or a near-tie
    (`TIES`).

    Args:
        runner: of the file.
        model: that the file came from.
        file: its name, for the report.
        images: to compare on.
        summary: of the file, for the report.
        notes: what could not be checked, for the report.
    """
    metadata = runner.metadata
    images = images or proof_images(metadata)
    highest = metadata.batch.high
    count = highest * math.ceil(AGREEING.get(metadata.precision, 1) / highest)
    reference = Reference(model, metadata.outputs)
    kinds = {"photographs": images.photographs} if images.source else {}
    rows: list[Comparison] = []
    agreement: dict[str, float] = {}
    drift: dict[str, float] = {}
    scores = next((name for name in (LOGITS, PROBABILITIES) if name in metadata.outputs), None)
    attention = next((name for name in (ATTENTION, ATTENTION_UPSAMPLED) if name in metadata.outputs), None)
    for kind, make in {**kinds, "noise": images.noise}.items():
        agreeing: list[Tensor] = []
        drifts: list[Tensor] = []
        for size in proof_sizes(metadata.size):
            given = make(count, size)
            chunks = [reference(chunk) for chunk in given.split(CHUNK)]
            expected = {name: torch.cat([chunk[name] for chunk in chunks]) for name in metadata.outputs}

            for batch in _batches(metadata):
                computed = _run(runner, given[:batch])
                for name, value in computed.items():
                    rows.append(_compare(kind, size, name, value, expected[name][:batch], _scale(name, expected[name])))
            for start in range(0, count, highest):
                part = slice(start, start + highest)
                computed = _run(runner, given[part]) if start else computed  # the highest batch has been run
                if scores is not None:
                    agreeing.append(_agreeing(computed[scores], expected[scores][part], TIES[metadata.precision]))
                if attention is not None and computed[attention].shape == expected[attention][part].shape:
                    drifts.append((computed[attention].float() - expected[attention][part]).abs().flatten())
        if agreeing:
            agreement[kind] = torch.cat(agreeing).double().mean().item()
        if drifts:
            drift[kind] = torch.cat(drifts).double().mean().item()
    notes = [
        *notes,
        *([] if images.source else ["no photographs: compared on noise alone (pip install 'abn-fast[data]')"]),
    ]
    return Proof(
        file,
        runner.runtime,
        runner.provider,
        metadata.precision,
        tuple(rows),
        agreement,
        drift,
        dict(summary or {}),
        tuple(notes),
        hint=_hint(model, metadata.precision, [row.share for row in rows if row.output == attention]),
    )


def proof_images(metadata: Metadata, folder: str | Path | None = None) -> ProofImages:
    """Images for what a file takes; without its own preprocessing, ImageNet's."""
    seen = metadata.preprocessing
    if seen is None:
        size = metadata.size.best
        if metadata.channels == 3:
            seen = Preprocessing(size, IMAGENET.mean, IMAGENET.std)
        else:
            seen = Preprocessing(size, (0.5,) * metadata.channels, (0.5,) * metadata.channels)
    return ProofImages(seen, folder)


def _batches(metadata: Metadata) -> list[int]:
    """Ends with the highest."""
    low, high = metadata.batch.low, metadata.batch.high
    return sorted({batch for batch in (1, 2) if low <= batch <= high} | {low, high})


def is_untouched(model: nn.Module) -> bool:
    """Whether a network has batch norms and all have the statistics that they are made with."""
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    statistics = [(norm.running_mean, norm.running_var) for norm in norms]
    return bool(norms) and all(
        mean is not None and var is not None and not mean.any() and bool((var == 1).all()) for mean, var in statistics
    )


def _hint(model: nn.Module, precision: str, map_shares: Sequence[float]) -> str:
    if precision != "fp32" and is_untouched(model):
        return UNTOUCHED
    fails = any(share > TOLERANCES[precision] for share in map_shares)
    return KEEP_MAP if precision in CALIBRATED and fails else ""


def proof_sizes(sizes: SizeRange) -> list[Size]:
    """The best size and, if sizes vary, one that is not square where the best is."""
    if sizes.is_fixed:
        return [sizes.best]
    other = (sizes.low[0], sizes.best[1])
    return [sizes.best, other if other != sizes.best else (sizes.best[0], sizes.high[1])]


def _scale(output: str, expected: Tensor) -> float:
    least = LEAST_MAP if output in (ATTENTION, ATTENTION_UPSAMPLED, PROBABILITIES) else torch.finfo(torch.float32).tiny
    return max(expected.abs().max().item(), least)


def _run(runner: Runner, images: Tensor) -> dict[str, Tensor]:
    return dict(zip(runner.metadata.outputs, runner.run(images.contiguous()), strict=True))


def _compare(images: str, size: Size, output: str, ours: Tensor, expected: Tensor, scale: float) -> Comparison:
    batch = len(expected)
    if ours.shape != expected.shape:
        return Comparison(images, batch, size_text(size), output, math.inf, math.inf)
    difference = (ours.float() - expected).abs().max().item()
    difference = math.inf if math.isnan(difference) else difference
    return Comparison(images, batch, size_text(size), output, difference, difference / scale)


def _agreeing(ours: Tensor, expected: Tensor, tie: float) -> Tensor:
    chosen = expected.gather(-1, ours.argmax(-1, keepdim=True))[..., 0]
    margin = expected.amax(-1) - chosen
    return margin <= 2 * tie * expected.abs().max()

"""From tensors to launches of the kernels."""

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from abn_fast.kernels import _dispatch
from abn_fast.kernels._layout import empty_like, in_format, memory_format
from abn_fast.kernels._runtime import accumulator, launch
from abn_fast.kernels._tuning import architecture, configuration
from abn_fast.kernels.norm_class_conv import _products, _triton
from abn_fast.kernels.norm_class_conv._plain import Norm, NormGradients

_SPLITS_FLOAT32 = ("sm_80", "sm_90", "sm_100")
"""Where three products of tensor cores, as exact as one in float32, take less time than it."""

_TRITON = {
    torch.float16: tl.float16,
    torch.bfloat16: tl.bfloat16,
    torch.float32: tl.float32,
    torch.float64: tl.float64,
}


def fold(f: Tensor, weight: Tensor, norm: Norm, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """W' [K, C'] in `dtype` and c [K] in the accumulator's, from one read of W."""
    classes, channels = weight.shape
    acc = accumulator(weight, norm.mean)
    weight = weight.contiguous()
    folded = torch.empty_like(weight, dtype=dtype)
    shift = weight.new_empty(classes, dtype=_torch(acc))
    chosen = configuration("norm_class_conv.fold", f, classes=classes)
    launch(
        _triton.fold_kernel,
        triton.cdiv(classes, chosen["block_classes"]),
        f.device,
        weight,
        *_vectors(norm),
        folded,
        shift,
        norm.eps,
        K=classes,
        C=channels,
        BLOCK_K=chosen["block_classes"],
        BLOCK_C=min(chosen["block_channels"], triton.next_power_of_2(channels)),
        ACC=acc,
        num_warps=chosen["num_warps"],
    )
    return folded, shift


def weight_gradients(d_folded: Tensor, d_shift: Tensor | None, weight: Tensor, norm: Norm, f: Tensor) -> NormGradients:
    """Gradients of W and of the norm's vectors, from one read of W and of the gradient of W'."""
    classes, channels = weight.shape
    acc = accumulator(weight, norm.mean)
    weight, d_folded = weight.contiguous(), d_folded.contiguous()
    d_weight = d_folded if d_folded.dtype == weight.dtype else torch.empty_like(weight)
    d_vectors = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in norm[:2]]
    d_vectors += [torch.empty_like(x, dtype=_torch(acc), memory_format=torch.contiguous_format) for x in norm[2:4]]
    chosen = configuration("norm_class_conv.weight_gradients", f, classes=classes)
    launch(
        _triton.weight_gradients_kernel,
        triton.cdiv(channels, chosen["block_channels"]),
        f.device,
        d_folded,
        d_shift,
        weight,
        *_vectors(norm),
        d_weight,
        *d_vectors,
        norm.eps,
        K=classes,
        C=channels,
        BLOCK_K=chosen["block_classes"],
        BLOCK_C=chosen["block_channels"],
        ACC=acc,
        num_warps=chosen["num_warps"],
    )
    return NormGradients(d_weight, *d_vectors)


def input_gradient(d_z: Tensor, f: Tensor, weight: Tensor, norm: Norm, d_mean: Tensor, d_var: Tensor) -> Tensor:
    """The gradient of f, which norm's statistics are those of; all in the format of f."""
    chosen = configuration("norm_class_conv.input_gradient", f, classes=len(weight))
    if not chosen["fused"]:
        d_normed = _products.input_gradient(d_z, f.to(d_z.dtype), weight.to(d_z.dtype))
        return add_statistics_gradient(in_format(d_normed.to(f.dtype), f), f, norm, d_mean, d_var)
    batch, channels, height, width = f.shape
    pixels, last = height * width, memory_format(f) == torch.channels_last
    block_c = min(chosen["block_channels"], max(16, triton.next_power_of_2(channels)))
    block_p = chosen["block_pixels"]
    if not last:
        block_p = min(block_p, max(16, triton.next_power_of_2(pixels)))
    blocks = triton.cdiv(channels, block_c)
    tiles = triton.cdiv(batch * pixels, block_p) if last else batch * triton.cdiv(pixels, block_p)
    norm_weight, _, mean, var = _vectors(norm)
    acc, d_f = accumulator(f, norm.mean), empty_like(f)
    launch(
        _triton.input_gradient_kernel,
        blocks * tiles,
        f.device,
        d_z,
        weight.contiguous(),
        f,
        norm_weight,
        mean,
        var,
        d_mean,
        d_var,
        d_f,
        norm.eps,
        batch * pixels,
        K=len(weight),
        C=channels,
        P=pixels,
        LAST=last,
        BLOCK_K=min(chosen["block_classes"], max(16, triton.next_power_of_2(len(weight)))),
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        BLOCKS=blocks,
        OPERAND=_operand(d_z.dtype),
        PRECISION=_precision(d_z),
        ACC=acc,
        num_warps=chosen["num_warps"],
        num_stages=chosen["num_stages"],
    )
    return d_f


def add_statistics_gradient(d_normed: Tensor, f: Tensor, norm: Norm, d_mean: Tensor, d_var: Tensor) -> Tensor:
    """The gradient of f, in the place of that of norm(f) over norm.weight; both in the format of f."""
    batch, channels, height, width = f.shape
    pixels, last = height * width, memory_format(f) == torch.channels_last
    chosen = configuration("norm_class_conv.statistics_gradient", f)
    block_c, block_p = _tile(channels, pixels, last, chosen["tile_bytes"] // f.element_size())
    blocks_c, blocks_p = triton.cdiv(channels, block_c), triton.cdiv(pixels, block_p)
    norm_weight, _, mean, var = _vectors(norm)
    launch(
        _triton.statistics_gradient_kernel,
        batch * blocks_c * blocks_p,
        f.device,
        d_normed,
        f,
        norm_weight,
        mean,
        var,
        d_mean,
        d_var,
        norm.eps,
        batch * pixels,
        C=channels,
        P=pixels,
        LAST=last,
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        BLOCKS_C=blocks_c,
        BLOCKS_P=blocks_p,
        ACC=accumulator(f, norm.mean),
        num_warps=chosen["num_warps"],
    )
    return d_normed


def _tile(channels: int, pixels: int, last: bool, elements: int) -> tuple[int, int]:
    """A tile of so many elements, as wide as may be where they follow one another."""
    channels, pixels = triton.next_power_of_2(channels), triton.next_power_of_2(pixels)
    if last:
        block_c = min(channels, elements // min(pixels, 8))
        return block_c, min(pixels, elements // block_c)
    block_p = min(pixels, elements)
    return min(channels, elements // block_p), block_p


def _vectors(norm: Norm) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    weight, bias, mean, var = (x.contiguous() for x in norm[:4])
    return weight, bias, mean, var


def _torch(acc: tl.dtype) -> torch.dtype:
    return torch.float64 if acc == tl.float64 else torch.float32


def _operand(dtype: torch.dtype) -> Any:
    # the interpreter multiplies the bits of bfloat16 as integers
    return tl.float32 if _dispatch.INTERPRETED and dtype == torch.bfloat16 else _TRITON[dtype]


def _precision(x: Tensor) -> str:
    if x.dtype != torch.float32:
        return "ieee"
    target = architecture(x.device)
    if torch.backends.cuda.matmul.fp32_precision == "tf32" and target.startswith("sm_"):
        return "tf32"
    return "tf32x3" if target in _SPLITS_FLOAT32 else "ieee"

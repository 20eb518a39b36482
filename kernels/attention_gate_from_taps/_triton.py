"""The kernels. Features are laid out as for `attention_gate`: A x B elements an image, gated along b only."""

# ruff: noqa: N803 - a constexpr is written in capitals
# mypy: disable-error-code="no-untyped-def"

import triton
import triton.language as tl

from abn_fast.kernels.attention_gate._triton import _tile

# these follow the batch size, for which nothing is compiled anew
_RUNTIME = ["parts", "splits", "chunks"]


@triton.jit
def sum_taps(
    taps,  # of one image: [parts, TAPS, H * W]
    pixel,
    mask,
    parts,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    TAPS: tl.constexpr,
    ACC: tl.constexpr,
):
    """The map score at some pixels: tap 3 i + j of the pixel (i - 1, j - 1) away, zero outside the image."""
    row = pixel // WIDTH
    column = pixel % WIDTH
    score = tl.zeros(pixel.shape, ACC)
    for part in range(parts):
        for tap in tl.static_range(TAPS):
            down = (tap // 3 - 1) * (TAPS // 9)
            right = (tap % 3 - 1) * (TAPS // 9)
            inside = (row + down >= 0) & (row + down < HEIGHT) & (column + right >= 0) & (column + right < WIDTH)
            place = (part * TAPS + tap) * (HEIGHT * WIDTH) + pixel + (down * WIDTH + right)
            score += tl.load(taps + place, mask=mask & inside, other=0.0).to(ACC)
    return score


@triton.jit(do_not_specialize=["parts"])
def score_kernel(
    taps,
    score,
    parts,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    TAPS: tl.constexpr,
    BLOCK: tl.constexpr,
    ACC: tl.constexpr,
):
    program = tl.program_id(0)
    n = (program // tl.cdiv(HEIGHT * WIDTH, BLOCK)).to(tl.int64)
    pixel = program % tl.cdiv(HEIGHT * WIDTH, BLOCK) * BLOCK + tl.arange(0, BLOCK)
    mask = pixel < HEIGHT * WIDTH
    total = sum_taps(taps + n * parts * (TAPS * HEIGHT * WIDTH), pixel, mask, parts, HEIGHT, WIDTH, TAPS, ACC)
    tl.store(score + n * (HEIGHT * WIDTH) + pixel, total, mask=mask)


@triton.jit
def gate_tile(
    program,
    features,
    taps,
    scale,
    shift,
    gated,
    attention,
    parts,
    splits,
    chunks,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_MAP: tl.constexpr,
    TILES: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACC: tl.constexpr,
):
    """What the program of that number does: its share of an image's features; the first of an image writes the map."""
    pixels: tl.constexpr = HEIGHT * WIDTH
    split = program % splits
    n = (program // splits // TILES).to(tl.int64)
    tile = program // splits % TILES
    b = tile * BLOCK_B + tl.arange(0, BLOCK_B)
    if BLOCK_MAP > 0:  # a run holds the pixels of several channels: one map for all of them
        pixel = tl.arange(0, BLOCK_MAP)
        known = pixel < pixels
    else:
        pixel = b % pixels
        known = b < B
    taps += n * parts * (9 * pixels)
    logit = sum_taps(taps, pixel, known, parts, HEIGHT, WIDTH, 9, ACC) * tl.load(scale).to(ACC)
    m = 1.0 / (1.0 + tl.exp(-(logit + tl.load(shift).to(ACC))))
    if BLOCK_MAP > 0:
        tl.store(attention + n * pixels + pixel, m, mask=pixel < tl.where(split == 0, pixels, 0))
        m = tl.gather(m, b % pixels, 0)  # [BLOCK_B]
    else:
        tl.store(attention + n * pixels + b, m, mask=b < tl.where(split == 0, pixels, 0))
    if RESIDUAL:
        m += 1.0
    features += n * (A * B)
    gated += n * (A * B)
    for chunk in range(chunks):
        start, offset, mask = _tile(split * chunks + chunk, tile, A, B, STRIDE_A, STRIDE_B, BLOCK_A, BLOCK_B)
        g = tl.load(features + start + offset, mask=mask, other=0.0).to(ACC)
        tl.store(gated + start + offset, g * m[None, :], mask=mask)


@triton.jit(do_not_specialize=_RUNTIME)
def gate_kernel(
    features,
    taps,
    scale,
    shift,
    gated,
    attention,
    parts,
    splits,
    chunks,
    HEIGHT: tl.constexpr,
    WIDTH: tl.constexpr,
    A: tl.constexpr,
    B: tl.constexpr,
    STRIDE_A: tl.constexpr,
    STRIDE_B: tl.constexpr,
    BLOCK_A: tl.constexpr,
    BLOCK_B: tl.constexpr,
    BLOCK_MAP: tl.constexpr,
    TILES: tl.constexpr,
    RESIDUAL: tl.constexpr,
    ACC: tl.constexpr,
):
    gate_tile(
        tl.program_id(0),
        features,
        taps,
        scale,
        shift,
        gated,
        attention,
        parts,
        splits,
        chunks,
        HEIGHT,
        WIDTH,
        A,
        B,
        STRIDE_A,
        STRIDE_B,
        BLOCK_A,
        BLOCK_B,
        BLOCK_MAP,
        TILES,
        RESIDUAL,
        ACC,
    )

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.explain._checks import check_maps


def inside_boxes(maps: Tensor, boxes: Tensor) -> Tensor:
    """Mask [N, H, W] of the pixels whose centre lies in the box of their map.

    Box x0, y0, x1, y1 holds the columns x0 to x1 - 1 and the rows y0 to y1 - 1 if its numbers are whole.

    Raises:
        AbnFastError: wrong shape or dtype, NaN, a box without pixels or outside its map.
    """
    check_maps(maps)
    n, height, width = maps.shape
    if boxes.shape != (n, 4):
        raise AbnFastError(f"boxes have shape {list(boxes.shape)}, expected [{n}, 4] for {n} maps")
    corners = boxes.to(device=maps.device, dtype=torch.float32)
    limits = corners.new_tensor([width, height, width, height])
    _refuse(~(corners.ge(0) & corners.le(limits)).all(1), boxes, f"lies outside the {width} x {height} map")

    x0, y0, x1, y1 = corners[:, :, None].unbind(1)  # [N, 1]
    x = torch.arange(width, device=maps.device) + 0.5
    y = torch.arange(height, device=maps.device) + 0.5
    columns, rows = (x >= x0) & (x < x1), (y >= y0) & (y < y1)  # [N, W], [N, H]
    _refuse(~(columns.any(1) & rows.any(1)), boxes, "holds no pixel")
    return rows[:, :, None] & columns[:, None, :]


def _refuse(wrong: Tensor, boxes: Tensor, reason: str) -> None:
    if wrong.any():
        index = int(wrong.nonzero()[0])
        box = ", ".join(f"{value:g}" for value in boxes[index].tolist())
        raise AbnFastError(f"box {index} ({box}) {reason}; expected x0, y0, x1, y1 in pixels of the map")

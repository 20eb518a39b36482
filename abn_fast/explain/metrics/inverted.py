from torch import Tensor

from abn_fast.explain._checks import check_maps


def inverted(maps: Tensor) -> Tensor:
    """Control: every map upside down within its own range, max(M) + min(M) - M.

    A metric that reads where a map points must fall when the map is inverted.

    Shapes: [N, H, W] -> [N, H, W].

    Raises:
        AbnFastError: wrong shape or dtype, NaN.
    """
    check_maps(maps)
    return maps.amax((1, 2), keepdim=True) + maps.amin((1, 2), keepdim=True) - maps

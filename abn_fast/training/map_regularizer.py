from torch import Tensor

from abn_fast.kernels import accumulator


def map_area(attention: Tensor) -> Tensor:
    """Mean of the attention maps, ||M||_1 a pixel: the share of the image that the network attends to.

    Added to the loss with a small weight, it makes attention a cost, so that the map falls to 0 where nothing is to
    be seen. The paper's loss has no such term.

    Shapes: maps in [0, 1] of any shape -> a scalar.
    """
    return attention.to(accumulator(attention.dtype)).abs().mean()

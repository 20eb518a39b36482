from typing import cast

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from abn_fast.export.optimize._conv_norm import fold_norm, remainder
from abn_fast.export.optimize.branches import projecting_block
from abn_fast.modules import ImageNetwork, MultiTaskABN


class AddBias(nn.Module):
    """x + b: what is left of a norm whose scale went into a convolution on the other side of the gate."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """The sum of x [N, C, H, W] and b [C]."""
        return x + self.bias[:, None, None]


def fold_projection_norms(network: ImageNetwork) -> None:
    """Fold the norms behind a multi-task network's shared 1x1 convolutions, in place.

    Between them stands the gate, which commutes with the convolution but not with a bias:
    norm((1 + M) W g) = (1 + M) (s W) g + bias.
    """
    if not isinstance(network, MultiTaskABN):
        return
    block = projecting_block(network.perception_branch.stage)
    if block is None:
        return
    prefix = "perception_branch.stage.0."
    pairs = [("conv1", "bn1")]
    if not isinstance(block.downsample, nn.Identity):
        pairs.append(("downsample.0", "downsample.1"))
    for convolution_name, norm_name in pairs:
        convolution = cast(nn.Conv2d, network.get_submodule(prefix + convolution_name))
        norm = cast(_BatchNorm, network.get_submodule(prefix + norm_name))
        if not isinstance(remainder(norm), nn.Identity):
            continue
        folded = fold_norm(convolution, norm)
        assert folded.bias is not None
        network.set_submodule(prefix + norm_name, AddBias(folded.bias.detach()))
        folded.bias = None
        network.set_submodule(prefix + convolution_name, folded)

from typing import cast

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from abn_fast.export.optimize._conv_norm import conv_norm_pairs, fold_norm, remainder
from abn_fast.modules import ImageNetwork


def fold_convolution_norms(network: ImageNetwork) -> None:
    """Fold each batch norm that directly follows a convolution into it, in place.

    norm(W x + b) = (s W) x + (s (b - mean) + beta),  s = gamma / sqrt(var + eps). Norms before a convolution stay.
    """
    for convolution_name, norm_name in conv_norm_pairs(network):
        convolution = cast(nn.Conv2d, network.get_submodule(convolution_name))
        norm = cast(_BatchNorm, network.get_submodule(norm_name))
        rest = remainder(norm)
        assert rest is not None
        network.set_submodule(convolution_name, fold_norm(convolution, norm))
        network.set_submodule(norm_name, rest.eval())

from torch import Tensor, nn

from abn_fast import kernels
from abn_fast.modules import _norm


class GlobalAveragePool(nn.Module):
    """GAP: [N, C, H, W] -> [N, C]."""

    def forward(self, x: Tensor) -> Tensor:
        """Mean over H and W."""
        return kernels.global_average_pool(x)


class NormReluPool(nn.Module):
    """GAP(relu(bn(x))), the tail of pre-activation networks: [N, C, H, W] -> [N, C]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise, rectify and average over H and W."""
        bn = self.bn
        if _norm.uses_batch_statistics(bn) and not _norm.is_synchronised(bn):
            pooled, batch = kernels.norm_relu_pool(x, bn.weight, bn.bias, bn.eps)
            _norm.update_running_statistics(bn, batch, x.numel() // x.shape[1])
            return pooled
        return kernels.norm_relu_pool_affine(x, *_norm.scale_shift(bn, _norm.statistics(bn, x)))

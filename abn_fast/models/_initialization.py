from math import sqrt

from torch import nn


def fan_out_normal(module: nn.Module) -> None:
    """Convolutions N(0, 2 / (kernel area * output channels)): the published CIFAR and SE networks."""
    if isinstance(module, nn.Conv2d):
        area = module.kernel_size[0] * module.kernel_size[1]
        nn.init.normal_(module.weight, 0, sqrt(2 / (area * module.out_channels)))


def fan_out_normal_zero_bias(module: nn.Module) -> None:
    """`fan_out_normal`, and linear layers start with bias 0: the published Wide ResNet."""
    fan_out_normal(module)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def kaiming_fan_out(module: nn.Module) -> None:
    """Convolutions Kaiming normal, fan out: the published ImageNet ResNet."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def kaiming_fan_out_linear_fan_in(module: nn.Module) -> None:
    """`kaiming_fan_out`, linear layers Kaiming normal, fan in, bias 0: the published ResNeXt."""
    kaiming_fan_out(module)
    if isinstance(module, nn.Linear):
        nn.init.kaiming_normal_(module.weight)
        nn.init.zeros_(module.bias)


def kaiming_fan_out_small_linear(module: nn.Module) -> None:
    """`kaiming_fan_out`, linear layers N(0, 0.01), bias 0: VGG as torchvision starts it."""
    kaiming_fan_out(module)
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, 0, 0.01)
        nn.init.zeros_(module.bias)

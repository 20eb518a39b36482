from torch import nn

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def take_out_stride(stage: nn.Module) -> nn.Module:
    """Change a stage so that it keeps the resolution; its weights stay.

    Odd convolutions get stride 1, even ones also padding "same"; odd pools get stride 1 and padding; even pools and
    blurs, which are there only to lower the resolution, become the identity. Other layers keep their stride.
    """
    for name, module in list(stage.named_modules()):
        if max(_pair(getattr(module, "stride", 1))) == 1:
            continue
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if _is_even(module.kernel_size):
                module.padding = "same"
        elif isinstance(module, POOLS):
            stage.set_submodule(name, _pool_without_stride(module))
        elif not [*module.children(), *module.parameters()]:
            stage.set_submodule(name, nn.Identity())
    return stage


def _pool_without_stride(pool: nn.MaxPool2d | nn.AvgPool2d) -> nn.Module:
    size = _pair(pool.kernel_size)
    if _is_even(size):
        return nn.Identity()
    padding = (size[0] // 2, size[1] // 2)
    if isinstance(pool, nn.MaxPool2d):
        return nn.MaxPool2d(size, 1, padding)
    return nn.AvgPool2d(size, 1, padding, count_include_pad=False)


def _is_even(kernel_size: tuple[int, ...]) -> bool:
    return any(side % 2 == 0 for side in kernel_size)


def _pair(value: int | tuple[int, ...]) -> tuple[int, int]:
    height, width = (value, value) if isinstance(value, int) else value
    return height, width

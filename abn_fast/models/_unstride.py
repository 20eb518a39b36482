from torch import nn

POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def take_out_stride(stage: nn.Module) -> nn.Module:
    """Change a stage so that it keeps the resolution; its weights stay.

    Odd convolutions get stride 1, even ones also padding "same"; odd pools get stride 1 and padding; even pools and
    blurs, which are there only to lower the resolution, become the identity. Other layers keep their stride.
    """
    for name, module in list(stage.named_modules()):
        if _sides(getattr(module, "stride", 1)) <= {1}:
            continue
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
            if _has_even_side(module.kernel_size):
                module.padding = "same"
        elif isinstance(module, POOLS):
            stage.set_submodule(name, _pool_without_stride(module))
        elif not [*module.children(), *module.parameters()]:
            stage.set_submodule(name, nn.Identity())
    return stage


def _pool_without_stride(pool: nn.MaxPool2d | nn.AvgPool2d) -> nn.Module:
    size = pool.kernel_size
    if _has_even_side(size):
        return nn.Identity()
    padding = size // 2 if isinstance(size, int) else (size[0] // 2, size[1] // 2)
    if isinstance(pool, nn.MaxPool2d):
        return nn.MaxPool2d(size, 1, padding)
    return nn.AvgPool2d(size, 1, padding, count_include_pad=False)


def _has_even_side(kernel_size: int | tuple[int, ...]) -> bool:
    return any(side % 2 == 0 for side in _sides(kernel_size))


def _sides(size: int | tuple[int, ...]) -> set[int]:
    return {size} if isinstance(size, int) else set(size)

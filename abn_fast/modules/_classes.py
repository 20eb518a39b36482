from torch import nn

from abn_fast._errors import AbnFastError


def replace_last_linear(classifier: nn.Module, num_classes: int) -> tuple[nn.Module, nn.Linear]:
    """The classifier with a fresh last linear layer of `num_classes` outputs, and that layer."""
    linears = [(name, module) for name, module in classifier.named_modules() if isinstance(module, nn.Linear)]
    if not linears:
        raise AbnFastError(f"{type(classifier).__name__} has no linear layer whose classes could be reset")
    name, old = linears[-1]
    new = nn.Linear(old.in_features, num_classes, old.bias is not None)
    new.to(device=old.weight.device, dtype=old.weight.dtype).train(old.training)
    if not name:
        return new, new
    parent, _, child = name.rpartition(".")
    setattr(classifier.get_submodule(parent), child, new)
    return classifier, new

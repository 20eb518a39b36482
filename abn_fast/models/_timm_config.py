import torch
from torch import Size, nn

from abn_fast.models._libraries import build_library_model
from abn_fast.models._meta import image_channels
from abn_fast.modules import ModelConfig


def timm_config(model: nn.Module) -> ModelConfig | None:
    """The name and arguments that build this timm model anew, or None if its name builds another one."""
    architecture = (getattr(model, "pretrained_cfg", None) or {}).get("architecture")
    num_classes = getattr(model, "num_classes", None)
    if not architecture or num_classes is None:
        return None
    config = ModelConfig(f"timm:{architecture}", {"num_classes": num_classes, "in_chans": image_channels(model)})
    try:
        with torch.device("meta"):
            rebuilt = build_library_model(config)
    except Exception:  # a model that cannot be built without storage is not recognised
        return None
    same = type(rebuilt) is type(model) and _description(rebuilt) == _description(model)
    return config if same else None


def _description(model: nn.Module) -> tuple[dict[str, Size], dict[str, str]]:
    """Shapes of the state, and the settings of every layer that matters at inference."""
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    layers = {name: repr(module) for name, module in model.named_modules() if not any(module.children())}
    return shapes, {name: layer for name, layer in layers.items() if "Drop" not in layer and "Identity" not in layer}

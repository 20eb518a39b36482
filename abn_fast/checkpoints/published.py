from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints._layouts import LAYOUTS, Layout, Shapes
from abn_fast.checkpoints._state import build_from_state
from abn_fast.models._registry import ABN_PREFIX, find_family
from abn_fast.modules import AttentionBranchNetwork, ModelConfig

_WRAPPERS = ("module.", "_orig_mod.")
_DROP_RATES = ("droprate", "dropRate")


class FeatureReturningABN(AttentionBranchNetwork):
    """An attention branch network with the third output of the published ImageNet ResNets."""

    def forward(  # type: ignore[override]  # the published loop's contract, not ABNOutput's
        self, images: Tensor, attention: Tensor | None = None
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Attention logits, logits and [map, features, gated features]."""
        features = self.extractor(images)
        attention_logits, gated, attention = self.attention_branch(features, attention)
        return attention_logits, self.perception_branch(gated), [attention, features, gated]


def from_published(source: nn.Module | Mapping[str, Any], *, return_features: bool = False) -> AttentionBranchNetwork:
    """A network with the weights of the authors' published code; its forward unpacks as theirs does.

    Args:
        source: a live model of the published code, its state dict, or the dictionary that its checkpoints hold. The
            architecture is read off keys and shapes; the prefixes of DataParallel and torch.compile are dropped.
        return_features: return [map, features, gated features] in third place, as the published ImageNet ResNets do.

    Raises:
        AbnFastError: the keys or shapes are not of the published code.
    """
    state, training = _published_state(source)
    layout = _recognise(state)
    config = _config(layout, {key: tuple(value.shape) for key, value in state.items()}, source)
    network = build_from_state(config, state, layout.published_key)
    assert isinstance(network, AttentionBranchNetwork)
    if return_features:
        network = _returning_features(network)
    return network.train(training)


def to_published(model: nn.Module, prefix: str = "module.") -> dict[str, Tensor]:
    """The model's state dict under the published code's keys, which that code loads with `strict=True`.

    Args:
        model: an attention branch network of a family that the published code has.
        prefix: what DataParallel puts before every key; "" for a bare model.

    Raises:
        AbnFastError: the published code has no class for this model.
    """
    layout = _layout_of(model)
    return {prefix + layout.published_key(key): value for key, value in model.state_dict().items()}


def _published_state(source: nn.Module | Mapping[str, Any]) -> tuple[dict[str, Tensor], bool]:
    if isinstance(source, nn.Module):
        return _unwrapped(source.state_dict()), source.training
    state = source.get("state_dict", source)
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise AbnFastError("expected a state dict of tensors, or a dictionary that holds one under 'state_dict'")
    return _unwrapped(state), False


def _unwrapped(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    names = dict(state)
    for wrapper in _WRAPPERS * 2:
        if names and all(name.startswith(wrapper) for name in names):
            names = {name.removeprefix(wrapper): value for name, value in names.items()}
    return names


def _recognise(state: Mapping[str, Tensor]) -> Layout:
    for layout in LAYOUTS:
        if layout.tell_tale in state:
            return layout
    shown = ", ".join(list(state)[:3]) or "nothing"
    raise AbnFastError(
        f"no published attention branch network has these keys ({shown}, ...); expected one of "
        + ", ".join(layout.tell_tale for layout in LAYOUTS)
    )


def _config(layout: Layout, shapes: Shapes, source: object) -> ModelConfig:
    try:
        numbers = layout.arguments(shapes)
        arguments = {"num_classes": shapes["att_conv.weight"][0], "in_chans": _first_conv(shapes)[1]}
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise AbnFastError(f"the keys start like {layout.family} but are not complete: {error!r}") from None
    try:
        name = layout.family.format(**numbers)
    except KeyError:
        name = layout.family.partition("{")[0]
    family, in_name = find_family(name)
    stated = family.defaults() | in_name
    if isinstance(source, nn.Module) and "drop_rate" in stated:
        rates = [getattr(module, name, 0) for module in source.modules() for name in _DROP_RATES]
        arguments |= {"drop_rate": max(rates)} if max(rates) > 0 else {}
    arguments |= {key: value for key, value in numbers.items() if stated.get(key) != value}
    return ModelConfig(ABN_PREFIX + name, arguments)


def _first_conv(shapes: Shapes) -> tuple[int, ...]:
    return shapes["conv1.weight"] if "conv1.weight" in shapes else shapes["conv_1_3x3.weight"]


def _returning_features(network: AttentionBranchNetwork) -> FeatureReturningABN:
    returning = FeatureReturningABN(
        network.extractor,
        network.attention_branch,
        network.perception_branch,
        network.num_classes,
        network._initialize,
    )
    returning.config = network.config
    return returning


def _layout_of(model: nn.Module) -> Layout:
    kind = type(model).__name__
    config = getattr(model, "config", None)
    if not isinstance(model, AttentionBranchNetwork) or config is None:
        raise AbnFastError(f"the published code has no class for {kind} without a registered abn_ name")
    by_family = {layout.family: layout for layout in LAYOUTS}
    name = config.name.removeprefix(ABN_PREFIX)
    layout = None if ":" in name else by_family.get(find_family(name)[0].template)
    if layout is None:
        raise AbnFastError(f"the published code has no class for {config.name}")
    offered = {"in_chans": 3, "gate": "residual"} | layout.fixed
    arguments = find_family(name)[1] | config.arguments
    for key, value in offered.items():
        if arguments.get(key, value) != value:
            raise AbnFastError(
                f"the published code has no class for {config.name} with {key}={arguments[key]!r}, only {value!r}"
            )
    return layout

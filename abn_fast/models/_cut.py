from dataclasses import dataclass

from torch import Size, fx, nn

from abn_fast._errors import AbnFastError
from abn_fast.models._cut_point import ancestors, cut_points, feature_maps
from abn_fast.models._meta import image_channels, output_shapes
from abn_fast.models._timm_perception import TimmPerceptionBranch
from abn_fast.models._tracing import module_nodes, result_node, section, trace
from abn_fast.modules import PerceptionBranch


@dataclass(frozen=True)
class Cut:
    """A classifier in the two parts between which the attention branch goes."""

    extractor: nn.Module
    perception_branch: PerceptionBranch
    features: list[Size]
    """Shapes of the extractor's features for images of two sizes."""
    num_classes: int


def cut(model: nn.Module, num_classes: int | None = None) -> Cut:
    """Cut a classifier behind the last feature whose resolution is above the final one; the model is used up.

    Args:
        model: a timm or torchvision classifier.
        num_classes: another number than the model's starts a fresh classifier.

    Raises:
        AbnFastError: there is no such place, or more than one tensor crosses it.
    """
    runs = output_shapes(model, image_channels(model))
    classes = _count_classes(model, runs[0].get("", Size()))
    name, extractor, branch = _first_true_cut(model, feature_maps(runs))
    if num_classes is not None and num_classes != classes:
        branch.reset_classifier(num_classes)
        classes = num_classes
    if not classes:
        raise AbnFastError("it has no classifier (num_classes=0): pass num_classes=")
    return Cut(extractor, branch, [run[name] for run in runs], classes)


def _first_true_cut(model: nn.Module, maps: dict[str, tuple[int, int]]) -> tuple[str, nn.Module, PerceptionBranch]:
    *preferred, last = cut_points(model, maps)
    for name in preferred:
        try:
            return name, *_cut_behind(name, model, maps)
        except AbnFastError:
            continue
    return last, *_cut_behind(last, model, maps)


def _cut_behind(name: str, model: nn.Module, maps: dict[str, tuple[int, int]]) -> tuple[nn.Module, PerceptionBranch]:
    is_timm = hasattr(model, "forward_head")
    graph = trace(model, "forward_features" if is_timm else "forward", ancestors(name))
    nodes = module_nodes(graph)
    if name not in nodes:
        raise AbnFastError(f"its forward does not call {name}, the end of its last stage but one")
    start = nodes[name]
    last_map = result_node(graph) if is_timm else [node for target, node in nodes.items() if target in maps][-1]
    extractor = section(model, graph, None, start)
    stage = section(model, graph, start, last_map)
    if next(stage.parameters(), None) is None:
        raise AbnFastError(f"nothing with weights follows {name} before the classifier")
    return extractor, _timm_branch(stage, model, graph) if is_timm else _branch(stage, model, graph, last_map)


def _timm_branch(stage: nn.Module, model: nn.Module, graph: fx.Graph) -> PerceptionBranch:
    used = {str(node.target).partition(".")[0] for node in graph.nodes if node.op in ("call_module", "get_attr")}
    for child in used:
        delattr(model, child)
    return TimmPerceptionBranch(stage, model)


def _branch(stage: nn.Module, model: nn.Module, graph: fx.Graph, last_map: fx.Node) -> PerceptionBranch:
    logits = result_node(graph)
    if logits.op != "call_module" or logits is last_map or len(logits.all_input_nodes) != 1:
        raise AbnFastError("no classifier module comes last in its forward")
    (pooled,) = logits.all_input_nodes
    return PerceptionBranch(stage, section(model, graph, last_map, pooled), model.get_submodule(str(logits.target)))


def _count_classes(model: nn.Module, output: Size) -> int:
    if len(output) != 2:
        raise AbnFastError("it does not return logits [N, K]")
    return 0 if getattr(model, "num_classes", None) == 0 else output[1]

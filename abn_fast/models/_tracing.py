from collections.abc import Container

from torch import fx, nn

from abn_fast._errors import AbnFastError


def trace(model: nn.Module, method: str, opened: Container[str]) -> fx.Graph:
    """The graph of `model.method`, whose nodes are whole modules except the `opened` ones, which are looked into.

    Raises:
        AbnFastError: what it computes depends on values, or differs between training and evaluation.
    """
    evaluation, training = (_Tracer(method, opened).trace_in_mode(model, mode) for mode in (False, True))
    if _listing(evaluation) != _listing(training):
        raise AbnFastError(f"its {method} differs between training and evaluation (auxiliary classifiers?)")
    return evaluation


class _Tracer(fx.Tracer):
    def __init__(self, method: str, opened: Container[str]) -> None:
        super().__init__()
        self.traced_func_name = method
        self.opened = opened

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_qualified_name not in self.opened

    def trace_in_mode(self, model: nn.Module, training: bool) -> fx.Graph:
        was_training = {module: module.training for module in model.modules()}
        try:
            return self.trace(model.train(training))
        except Exception as error:  # whatever the model's own code raises when it meets a proxy
            raise AbnFastError(f"its {self.traced_func_name} cannot be traced: {first_line(error)}") from error
        finally:
            for module, mode in was_training.items():
                module.training = mode


def _listing(graph: fx.Graph) -> list[str | None]:
    return [node.format_node() for node in graph.nodes]


def result_node(graph: fx.Graph) -> fx.Node:
    """The node that computes what the graph returns.

    Raises:
        AbnFastError: it returns several things.
    """
    (result,) = graph.output_node().args
    if not isinstance(result, fx.Node):
        raise AbnFastError(f"it computes a {type(result).__name__} of tensors instead of one")
    return result


def module_nodes(graph: fx.Graph) -> dict[str, fx.Node]:
    """The nodes that call a module, by the module's name, in order of the calls."""
    return {str(node.target): node for node in graph.nodes if node.op == "call_module"}


def section(model: nn.Module, graph: fx.Graph, start: fx.Node | None, end: fx.Node) -> fx.GraphModule:
    """The part of the graph that computes `end` from `start`, or from the images; it shares the model's modules.

    Raises:
        AbnFastError: `end` needs more than `start`.
    """
    needed = _needed(start, end)
    piece = fx.Graph()
    copies = {} if start is None else {start: piece.placeholder("features")}
    for node in graph.nodes:
        if node in needed:
            if start is not None and node.op == "placeholder":
                raise AbnFastError(f"other tensors go round {start.target}, the place to cut it")
            copies[node] = piece.node_copy(node, copies.__getitem__)
    piece.output(copies[end])
    return fx.GraphModule(model, piece)


def _needed(start: fx.Node | None, end: fx.Node) -> set[fx.Node]:
    needed: set[fx.Node] = set()
    waiting = [end]
    while waiting:
        node = waiting.pop()
        if node is not start and node not in needed:
            needed.add(node)
            waiting += node.all_input_nodes
    return needed


def first_line(error: Exception) -> str:
    """The first line of an error's message, or its kind."""
    return (str(error).splitlines() or [type(error).__name__])[0]

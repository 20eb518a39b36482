"""A whole training step as the compiler sees it on a GPU: no graph breaks, and this project's ops in both directions.

Everything is captured on fake tensors. Backward cannot be traced on fake CUDA tensors without a card, so both
directions are captured on fake CPU tensors that take the path of CUDA tensors; the forward also on fake CUDA tensors.
The ops are opaque to the compiler, which therefore asks for no Triton driver.
"""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
import torch._dynamo
from torch import Tensor, nn
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch._library.custom_ops import OPDEFS
from torch._subclasses import FakeTensorMode
from torch.fx import GraphModule, Node
from torch.utils._python_dispatch import TorchDispatchMode

from abn_fast import create_model
from abn_fast.kernels import _runtime
from abn_fast.kernels._dispatch import force
from abn_fast.modules import abn_loss

MODELS = {"abn_cifar_resnet20": 32, "abn_resnet50": 224}
"""Names and image sizes."""
BATCH = 2

Row = dict[str, Any]


def rows(models: Iterable[str] = MODELS) -> list[Row]:
    """What `torch.compile` and `torch.export` capture of each model, and the kernels that its ops launch."""
    return [row_of(name, partial(create_model, name), MODELS.get(name, 32)) for name in models]


def row_of(name: str, make_model: Callable[[], nn.Module], image_size: int) -> Row:
    """The row of one model, made anew for each capture."""
    graphs, breaks = _captured(make_model, image_size)
    forward, backward = (_ops(graph) for graph in graphs)
    on_cuda = _ops_on_cuda(make_model, image_size)
    exported, plain = (_exported_ops(make_model, image_size, uses) for uses in (True, False))
    return {
        "model": name,
        "breaks": breaks,
        "kernels": sorted({kernel for graph in graphs for kernel in _kernels(graph)}),
        "forward_ops": forward,
        "backward_ops": backward,
        "forward_ops_on_cuda": on_cuda,
        "exported_ops": exported,
        "plain_exported_ops": plain,
        "ok": breaks == 0 and forward == on_cuda != [] and backward != [] and exported != [] and plain == [],
    }


def breaks_of(make_model: Callable[[], nn.Module], image_size: int) -> int:
    """How many graph breaks divide a training step."""
    return _captured(make_model, image_size)[1]


def _captured(make_model: Callable[[], nn.Module], image_size: int) -> tuple[list[GraphModule], int]:
    """The forward and the backward graphs of a training step, and how many breaks divide it."""
    torch._dynamo.reset()
    recorder = AotEagerAndRecordGraphs()
    with FakeTensorMode(), force(True):
        model, images, labels = make_model().train(), torch.empty(BATCH, 3, image_size, image_size), _labels()

        def step(images: Tensor) -> Tensor:
            return abn_loss(model(images), labels)

        torch.compile(step, backend=recorder)(images).backward()
    torch._dynamo.reset()
    return [*recorder.fw_graphs, *recorder.bw_graphs], len(recorder.graphs) - 1


def _labels() -> Tensor:
    return torch.zeros(BATCH, dtype=torch.int64)


def _ops(graph: GraphModule) -> list[str]:
    return sorted({_name(node.target) for node in _nodes(graph)})


def _nodes(graph: GraphModule) -> list[Node]:
    return [node for node in graph.graph.nodes if getattr(node.target, "namespace", None) == "abn_fast"]


def _name(op: Any) -> str:
    return str(op._schema.name.partition("::")[2])


def _kernels(graph: GraphModule) -> set[str]:
    """What the launchers of the graph's ops launch on tensors like those of the graph: "op.function"."""
    with FakeTensorMode(), _runtime.record() as launches:
        for node in _nodes(graph):
            arguments, named = torch.fx.node.map_arg((node.args, node.kwargs), _like)
            op: Any = node.target
            OPDEFS[op._schema.name]._init_fn(*arguments, **named)
    return {launch.name for launch in launches}


def _like(node: Node) -> Any:
    value = node.meta["val"]
    return torch.empty_strided(value.shape, value.stride(), dtype=value.dtype) if isinstance(value, Tensor) else value


def _ops_on_cuda(make_model: Callable[[], nn.Module], image_size: int) -> list[str]:
    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if op.namespace == "abn_fast":
                names.add(_name(op))
            return op(*args, **(kwargs or {}))

    names: set[str] = set()
    with FakeTensorMode(), torch.device("cuda"):
        model, images = make_model().train(), torch.empty(BATCH, 3, image_size, image_size)
        with Recorder():
            model(images)
    return sorted(names)


def _exported_ops(make_model: Callable[[], nn.Module], image_size: int, uses_triton: bool) -> list[str]:
    with force(uses_triton):
        program = torch.export.export(make_model().eval(), (torch.zeros(BATCH, 3, image_size, image_size),))
    return _ops(program.graph_module)

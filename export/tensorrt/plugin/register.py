import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from abn_fast._errors import AbnFastError
from abn_fast.export.onnx.gate import DOMAIN
from abn_fast.export.tensorrt.flavour import Flavour
from abn_fast.export.tensorrt.plugin.classic import PLUGIN_ID, register_gate
from abn_fast.export.tensorrt.plugin.driver import Driver
from abn_fast.export.tensorrt.plugin.kernel import ptx_target
from abn_fast.export.tensorrt.plugin.rtx import gate_creator

__all__ = ["PLUGIN_ID", "register_for_building", "register_for_running"]


def register_for_building(module: ModuleType, flavour: Flavour, builder: Any, targets: tuple[str, ...]) -> Any:
    """Have a flavour's parser take abn_fast::attention_gate nodes as our kernel, for as long as the process lives.

    Returns:
        What has to live as long as the builder.

    Raises:
        AbnFastError: the flavour takes no plugins.
    """
    if not flavour.python_plugins:
        try:
            register_gate(importlib.import_module(f"{flavour.module}.plugin"))
        except (ImportError, AttributeError) as error:
            raise AbnFastError(f"{flavour.title} {module.__version__} takes no plugins in Python: {error}") from None
        return None
    creator = gate_creator(module, ptx_target(targets))
    _register(builder.get_plugin_registry(), creator, flavour)
    return creator


@contextmanager
def register_for_running(module: ModuleType, flavour: Flavour, runtime: Any) -> Iterator[None]:
    """Have engines with the gate's plugin deserialised within.

    Raises:
        AbnFastError: NVIDIA's bindings of the driver are missing, or the flavour refuses.
    """
    if not flavour.python_plugins:
        yield
        return
    creator = gate_creator(module, driver=Driver())
    registry = runtime.get_plugin_registry()
    _register(registry, creator, flavour)
    try:
        yield
    finally:
        registry.deregister_creator(creator)


def _register(registry: Any, creator: Any, flavour: Flavour) -> None:
    if not registry.register_creator(creator, DOMAIN):
        raise AbnFastError(f"{flavour.title} does not register the gate's plugin: another one has its name")

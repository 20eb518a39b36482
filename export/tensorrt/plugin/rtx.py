import json
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from abn_fast._errors import AbnFastError
from abn_fast.export.onnx.gate import DOMAIN, NAME, VERSION
from abn_fast.export.tensorrt.plugin.driver import Driver
from abn_fast.export.tensorrt.plugin.kernel import CompiledGate, compile_gate
from abn_fast.export.tensorrt.plugin.tensors import DTYPES, LINEAR, feature_formats, gate_spec, text

GATE, KERNELS = "gate", "kernels"
"""Fields of the plugin: of the node, and of the engine."""
CAPABILITIES = ("Core", "Build", "Runtime")


def gate_creator(module: ModuleType, target: str | None = None, driver: Driver | None = None) -> Any:
    """What makes abn_fast::attention_gate in TensorRT-RTX, which has no other plugins than objects.

    The engine holds the kernel's PTX; the process that runs the engine launches it.

    Args:
        module: tensorrt_rtx.
        target: compute capability to compile for, while an engine is built.
        driver: launches, where one runs.
    """

    class Gate(module.IPluginV3, module.IPluginV3OneCore, module.IPluginV3OneBuild, module.IPluginV3OneRuntime):  # type: ignore[name-defined]  # the bases are known at run time only
        def __init__(self, gate: str, kernels: dict[str, CompiledGate]) -> None:
            for base in (module.IPluginV3, *(getattr(module, f"IPluginV3One{each}") for each in CAPABILITIES)):
                base.__init__(self)
            self.plugin_name, self.plugin_namespace, self.plugin_version = NAME, DOMAIN, str(VERSION)
            self.num_outputs = 2
            self.gate = gate
            self.kernels = kernels

        def get_capability_interface(self, kind: Any) -> Any:
            return self

        def clone(self) -> Any:
            return Gate(self.gate, self.kernels)

        def get_output_data_types(self, input_types: Sequence[Any]) -> list[Any]:
            return list(input_types)

        def get_output_shapes(self, inputs: Any, shape_inputs: Any, builder: Any) -> list[Any]:
            features, score = inputs
            gated = module.DimsExprs(features)
            gated[0] = builder.operation(module.DimensionOperation.PROD, features[0], score[1])
            return [gated, module.DimsExprs(score)]

        def supports_format_combination(self, place: int, tensors: Sequence[Any], inputs: int) -> bool:
            features, own = tensors[0].desc, tensors[place].desc
            if own.type.name not in DTYPES or (place >= inputs and own.type != tensors[place - inputs].desc.type):
                return False
            if place % inputs:
                return bool(own.format.name == LINEAR)
            formats = feature_formats(features.type.name, features.dims[1])
            return features.format.name in formats and bool(own.format == features.format)

        def configure_plugin(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            features, score = inputs
            if target is not None:
                dtypes, layout = (features.desc.type.name, score.desc.type.name), features.desc.format.name
                dims, best = tuple(features.desc.dims), tuple(features.opt)
                spec = gate_spec(dims, best, score.desc.dims[1], dtypes, layout, self.gate)
                self.kernels[layout] = compile_gate(spec, target)

        def get_fields_to_serialize(self) -> Any:
            kernels = json.dumps({layout: kernel.to_json() for layout, kernel in self.kernels.items()})
            self.serialized = {GATE: self.gate.encode(), KERNELS: kernels.encode()}  # fields do not hold their bytes
            kind = module.PluginFieldType.CHAR
            return module.PluginFieldCollection(
                [module.PluginField(name, value, kind) for name, value in self.serialized.items()]
            )

        def get_workspace_size(self, inputs: Any, outputs: Any) -> int:
            return 0

        def get_valid_tactics(self) -> list[int]:
            return []

        def set_tactic(self, tactic: int) -> None: ...

        def attach_to_context(self, context: Any) -> Any:
            return self.clone()

        def on_shape_change(self, inputs: Sequence[Any], outputs: Sequence[Any]) -> None:
            if driver is not None:  # before a CUDA graph is captured, in which nothing can be loaded
                driver.load(self.kernels[inputs[0].format.name])

        def enqueue(
            self,
            input_desc: Sequence[Any],
            output_desc: Sequence[Any],
            inputs: Sequence[int],
            outputs: Sequence[int],
            workspace: int,
            stream: int,
        ) -> None:
            if driver is None:
                raise AbnFastError("the gate's plugin was registered for building alone")
            batch, _, height, width = input_desc[0].dims
            driver.launch(self.kernels[input_desc[0].format.name], batch, height * width, inputs, outputs, stream)

    class Creator(module.IPluginCreatorV3One):  # type: ignore[name-defined]  # likewise
        def __init__(self) -> None:
            module.IPluginCreatorV3One.__init__(self)
            self.name, self.plugin_namespace, self.plugin_version = NAME, DOMAIN, str(VERSION)
            kind = module.PluginFieldType.CHAR
            self.field_names = module.PluginFieldCollection([module.PluginField(GATE, np.array([]), kind)])

        def create_plugin(self, name: str, fields: Any, phase: Any) -> Any:
            values = {field.name: text(field.data) for field in fields}
            kernels = json.loads(values.get(KERNELS, "{}"))
            return Gate(values[GATE], {layout: CompiledGate.from_json(each) for layout, each in kernels.items()})

    return Creator()

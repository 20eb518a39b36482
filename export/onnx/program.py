import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from abn_fast._errors import AbnFastError
from abn_fast._optional import require
from abn_fast._version import __version__
from abn_fast.export.metadata import KEY, Metadata
from abn_fast.export.onnx.gate import DOMAIN, VERSION, GateFunction, gate_function, put_gate_function
from abn_fast.export.served import ServedNetwork
from abn_fast.models._meta import meta_copy
from abn_fast.models._tracing import first_line

OPSETS = {"fp32": 20, "fp16": 20, "bf16": 22}
"""By precision: convolutions take bf16 from 22 on, which older runtimes do not read."""
DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
"""Of the products in a file; its inputs and outputs are float32."""
INPUT = "images"


def write_program(network: ServedNetwork, metadata: Metadata, path: Path) -> Metadata:
    """Write a network as one ONNX file that names no place of this machine; returns the metadata in it.

    Raises:
        AbnFastError: it does not take the smallest image, or cannot be traced with sizes that vary.
    """
    onnx = require("onnx", extra="export", purpose="ONNX export")
    require("onnxscript", extra="export", purpose="ONNX export")
    check_smallest_size(network, metadata)
    opset = OPSETS[metadata.precision]
    if metadata.gate == "function":
        put_gate_function(network)
    model = _traced(network, metadata).model_proto
    _strip(model)
    for kind in {module.gate for module in network.modules() if isinstance(module, GateFunction)}:
        model.functions.append(gate_function(kind, opset))
        if DOMAIN not in {known.domain for known in model.opset_import}:
            model.opset_import.append(onnx.helper.make_opsetid(DOMAIN, VERSION))
    versions = {"abn_fast": __version__, "torch": torch.__version__, "onnx": onnx.__version__, "opset": str(opset)}
    written = replace(metadata, versions=versions)
    set_metadata(model, written)
    onnx.save(model, path)
    onnx.checker.check_model(str(path), full_check=True)
    return written


def set_metadata(model: Any, metadata: Metadata) -> None:
    """Have an ONNX model say what it is, and nothing else."""
    onnx = require("onnx", extra="export", purpose="ONNX export")
    model.producer_name, model.producer_version = "abn_fast", __version__
    model.doc_string = _description(metadata)
    onnx.helper.set_model_props(model, _properties(metadata))


def check_smallest_size(network: ServedNetwork, metadata: Metadata) -> None:
    """Refuse sizes below the network's minimum."""
    images = torch.empty(metadata.batch.low, metadata.channels, *metadata.size.low, device="meta")
    try:
        with torch.no_grad():
            meta_copy(network)(images)
    except Exception as error:  # whatever the model's own code raises
        height, width = metadata.size.low
        raise AbnFastError(
            f"the network does not take images of {height}x{width} pixels: {first_line(error)}"
        ) from None


def _traced(network: ServedNetwork, metadata: Metadata) -> Any:
    names: dict[int, str] = {} if metadata.batch.is_fixed else {0: "batch"}
    if not metadata.size.is_fixed:
        names |= {2: "height", 3: "width"}
    batch = metadata.batch.low if metadata.batch.is_fixed else 2
    inputs = {INPUT: torch.zeros(batch, metadata.channels, *metadata.size.best)}
    inputs |= {name: torch.zeros(batch, *shape) for name, shape in network.more_inputs.items()}
    varying_batch = {} if metadata.batch.is_fixed else {0: torch.export.Dim.DYNAMIC}  # named by that of the images
    try:
        program = torch.onnx.export(
            network,
            tuple(inputs.values()),
            dynamo=True,
            opset_version=OPSETS[metadata.precision],
            input_names=list(inputs),
            output_names=list(metadata.outputs),
            dynamic_shapes={name: names if name == INPUT else varying_batch for name in inputs},
            verbose=False,
        )
    except Exception as error:  # whatever tracing the model's own code raises
        varying = f" with {', '.join(names.values())} that vary" if names else ""
        raise AbnFastError(
            f"the network cannot be traced{varying}: {first_line(error)}; fix the size (--size {metadata.size.best[0]})"
        ) from error
    assert program is not None
    for value in program.model.graph.outputs:
        if value.shape is not None and batch != metadata.batch.high and value.shape[0] == batch:
            raise AbnFastError(f"the network's {value.name} do not follow the batch: fix it (--batch {batch})")
    return program


def _strip(model: Any) -> None:
    """Drop the traces of this machine and of Python that the exporter keeps on every node."""
    for holder in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        del holder.metadata_props[:]
        holder.doc_string = ""
    for tensor in model.graph.initializer:
        del tensor.metadata_props[:]
        tensor.doc_string = ""
    del model.graph.value_info[:]


def _properties(metadata: Metadata) -> dict[str, str]:
    """The metadata as a whole, and each part that other programs may want under a name of its own."""
    properties = {
        KEY: metadata.to_json(),
        "outputs": ",".join(metadata.outputs),
        "precision": metadata.precision,
        "image_size": str(metadata.size),
        "batch": str(metadata.batch),
        **{f"version_{name}": version for name, version in metadata.versions.items()},
    }
    if metadata.model is not None:
        properties |= {"model": metadata.model, "model_arguments": json.dumps(metadata.arguments)}
    if metadata.classes is not None:
        properties["classes"] = json.dumps(metadata.classes)
    if metadata.preprocessing is not None:
        seen = metadata.preprocessing
        properties |= {"mean": json.dumps(seen.mean), "std": json.dumps(seen.std)}
    return properties


def _description(metadata: Metadata) -> str:
    seen = metadata.preprocessing
    given = "" if seen is None else f", (pixels / 255 - {list(seen.mean)}) / {list(seen.std)}"
    name = metadata.model or "an attention branch network"
    return (
        f"{name} of {metadata.num_classes} classes. Input images: float32 [batch, {metadata.channels}, height, width], "
        f"RGB{given}. Outputs: {', '.join(metadata.outputs)}."
    )

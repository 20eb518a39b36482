from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import Preprocessing
from abn_fast.export.describe import describe
from abn_fast.export.metadata import Metadata
from abn_fast.export.optimize.modes import forward_in
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.export.runtimes.runner import RunnerOptions
from abn_fast.export.served import ServedNetwork, served_network
from abn_fast.modules import ImageNetwork

PRECISIONS = {torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16", torch.float64: "fp32"}


class NetworkRunner:
    """A network made ready for inference, in torch.

    Args:
        network: on any device.
        metadata: its own.
        device: to move it to.
        mode: eager; compiled by Inductor with frozen weights; or cuda-graph, on a GPU.

    Raises:
        AbnFastError: there is no such device or mode.
    """

    runtime = "torch"

    def __init__(self, network: ServedNetwork, metadata: Metadata, device: str, mode: str = "eager") -> None:
        try:
            self._device = torch.device(device)
            self._network = network.to(self._device)
        except (RuntimeError, AssertionError) as error:  # torch's own about a device
            raise AbnFastError(f"device={device!r}: {(str(error).splitlines() or ['unknown'])[0]}") from None
        self._forward = forward_in(mode, self._network, self._device)
        self.metadata = metadata
        self.provider = f"{self._device}, {str(network.network.dtype).removeprefix('torch.')}"
        if mode != "eager":
            self.provider += f", {mode}"

    def run(self, images: Tensor) -> tuple[Tensor, ...]:
        """As `Runner.run`."""
        return tuple(self._forward(images.to(self._device)))


def run_model(
    model: ImageNetwork,
    options: RunnerOptions,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
) -> NetworkRunner:
    """A network of this library in torch; it stays as it is.

    Args:
        model: any.
        options: how to run it.
        preprocessing: that it was trained with.
        classes: their names.

    Raises:
        AbnFastError: an unknown device, dtype, mode or output.
    """
    if options.threads is not None:
        raise AbnFastError(f"threads={options.threads}: torch's are the whole process's: torch.set_num_threads(...)")
    network = served_network(model, options.outputs, options.dtype)
    metadata = describe(
        model,
        outputs=network.outputs,
        precision=PRECISIONS[network.network.dtype],
        batch=BatchRange(),
        size=SizeRange.around((224, 224) if preprocessing is None else preprocessing.image_size),
        preprocessing=preprocessing,
        classes=classes,
    )
    device = options.device or ("cuda" if torch.cuda.is_available() else "cpu")
    return NetworkRunner(network, metadata, device, options.mode or "eager")


def open_file(path: Path, options: RunnerOptions) -> NetworkRunner:
    """The runner of a checkpoint."""
    loaded = read_checkpoint(path)
    return run_model(loaded.model, options, loaded.preprocessing, loaded.classes)

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.export.images import images_to_tensor
from abn_fast.export.metadata import Metadata
from abn_fast.export.outputs import output_type
from abn_fast.export.runtimes import RunnerOptions, open_runner
from abn_fast.export.runtimes.torch import run_model
from abn_fast.models._tracing import first_line
from abn_fast.modules import ImageNetwork

Images = str | Path | Image.Image | np.ndarray[Any, Any] | Tensor | Sequence[Any]


class InferenceSession:
    """A deployed network: images in, a named tuple of its outputs out, whatever the runtime.

    It may be called by several threads at once.

    Args:
        path_or_model: an exported file, a checkpoint, or a network of this library, which stays as it is.
        runtime: "auto", which goes by the file, or a name in `abn_fast.export.runtimes.RUNTIMES`.
        device: cpu, cuda, cuda:1; by default the GPU if there is one that the runtime can use.
        outputs: names, in order; by default all that a file has, or a network's logits and map.
        dtype: of a network's products, its own by default; a file's are fixed, except in OpenVINO.
        preprocessing: of pictures; by default the file's own.
        threads: of onnxruntime or OpenVINO; None for its own choice.
        mode: of torch: eager; compiled, by Inductor with its weights as constants (a minute for each shape of images,
            then faster); or cuda-graph, on a GPU.

    Raises:
        AbnFastError: no such file, truncated, or not abn_fast's; an unknown runtime, output or device.
    """

    def __init__(
        self,
        path_or_model: str | Path | ImageNetwork,
        runtime: str = "auto",
        *,
        device: str | None = None,
        outputs: Sequence[str] | None = None,
        dtype: torch.dtype | None = None,
        preprocessing: Preprocessing | None = None,
        threads: int | None = None,
        mode: str | None = None,
    ) -> None:
        options = RunnerOptions(device, threads, dtype, None if outputs is None else _names(outputs), mode)
        if isinstance(path_or_model, str | Path):
            self._runner = open_runner(Path(path_or_model), runtime, options)
        elif runtime in ("auto", "torch"):
            self._runner = run_model(path_or_model, options, preprocessing)
        else:
            raise AbnFastError(f"runtime={runtime!r} reads a file: write one with abn-fast export")
        self.preprocessing = preprocessing or self._runner.metadata.preprocessing
        self._output = output_type(self._runner.metadata.outputs)

    @property
    def runtime(self) -> str:
        """What computes: torch, onnxruntime, ..."""
        return self._runner.runtime

    @property
    def provider(self) -> str:
        """What really computes, as the runtime itself says."""
        return self._runner.provider

    @property
    def metadata(self) -> Metadata:
        """Outputs, classes, sizes and preprocessing."""
        return self._runner.metadata

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Their names, if the file states them."""
        return self._runner.metadata.classes

    @property
    def map_size(self) -> tuple[int, int] | None:
        """(height, width) of the maps that an ONNX file exported with gate="editable" takes; None of others."""
        size: tuple[int, int] | None = getattr(self._runner, "map_size", None)
        return size

    def with_map(self, images: Tensor, attention: Tensor, mask: Tensor) -> Any:
        """The outputs of preprocessed images with given maps in the place of the network's own where mask is 1.

        Shapes: images [N, C, H, W]; attention in [0, 1] and mask, [N, 1, h, w] -> named tuple of tensors.

        Raises:
            AbnFastError: the file takes no maps, or maps of another size.
        """
        if self.map_size is None:
            raise AbnFastError(
                f"the file takes no map in {self.runtime}: write one with abn-fast export --gate editable"
            )
        expected = (len(images), 1, *self.map_size)
        for name, value in (("attention", attention), ("mask", mask)):
            if value.shape != expected:
                raise AbnFastError(f"{name} has shape {tuple(value.shape)}; expected {expected}")
        given = images_to_tensor(images, self.preprocessing, self._runner.metadata)
        return self._output(*self._runner.run_edited(given, attention.float(), mask.float()))  # type: ignore[attr-defined]  # it has a map_size

    def __call__(self, images: Images) -> Any:
        """The outputs of one image or a batch of images, which share their size after preprocessing.

        Args:
            images: a path, a PIL image, a uint8 array [H, W, C] or [H, W], or a list of these, which are preprocessed;
                or a uint8 array [N, H, W, C]; or a float array [C, H, W] or [N, C, H, W], preprocessed already.

        Returns:
            A named tuple with the batch's dimension in front, float32: of tensors if a tensor was given, else of NumPy
            arrays.

        Raises:
            AbnFastError: none of these, unreadable, or of a size that the network does not take.
        """
        given = images_to_tensor(images, self.preprocessing, self._runner.metadata)
        try:
            results = self._runner.run(given)
        except Exception as error:  # every runtime has its own classes
            raise AbnFastError(
                f"images {list(given.shape)} do not run in {self.runtime}: {first_line(error)}"
            ) from error
        if isinstance(images, Tensor):
            return self._output(*results)
        return self._output(*(result.numpy(force=True) for result in results))

    def __repr__(self) -> str:
        metadata = self.metadata
        return (
            f"InferenceSession({metadata.model}, runtime={self.runtime!r}, provider={self.provider!r}, "
            f"precision={metadata.precision!r}, outputs={metadata.outputs})"
        )


def _names(outputs: Sequence[str]) -> tuple[str, ...]:
    if isinstance(outputs, str):
        raise AbnFastError(f"outputs={outputs!r}; expected a list of names")
    return tuple(outputs)

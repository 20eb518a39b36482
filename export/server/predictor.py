from typing import Any, NamedTuple

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.export.outputs import ATTENTION, ATTENTION_UPSAMPLED, LOGITS, PROBABILITIES
from abn_fast.export.server.refusal import Refusal
from abn_fast.export.session import InferenceSession


class Prediction(NamedTuple):
    """What a network says of one image."""

    probabilities: Tensor
    """[K], or no and yes of each of T tasks, [T, 2]."""
    attention: Tensor | None
    """Its map, or one a task: [1 or T, h, w]."""


class Predictor:
    """A session as a server uses it: pictures to tensors, batches of these to predictions.

    Raises:
        AbnFastError: the file does not say how pictures are preprocessed, or has neither logits nor probabilities.
    """

    def __init__(self, session: InferenceSession) -> None:
        outputs = session.metadata.outputs
        if session.preprocessing is None:
            raise AbnFastError(
                "the file does not say how pictures are preprocessed: save_checkpoint(preprocessing=...)"
            )
        if not {LOGITS, PROBABILITIES} & set(outputs):
            raise AbnFastError(f"the file has {', '.join(outputs)}; a server needs logits or probabilities")
        self.session = session
        self.preprocessing: Preprocessing = session.preprocessing
        self._scores = PROBABILITIES if PROBABILITIES in outputs else LOGITS
        self._map = next((name for name in (ATTENTION, ATTENTION_UPSAMPLED) if name in outputs), None)
        classes, count = session.classes, session.metadata.num_classes
        self.classes = classes or tuple(str(index) for index in range(count))

    @property
    def has_map(self) -> bool:
        """Whether predictions carry a map."""
        return self._map is not None

    def run(self, images: Tensor) -> list[Prediction]:
        """The predictions of preprocessed images [N, C, H, W]; for a file that takes more at a time, repeats fill up.

        Raises:
            AbnFastError: the network does not take such images.
        """
        missing = max(0, self.session.metadata.batch.low - len(images))
        filled = torch.cat([images, images[-1:].expand(missing, -1, -1, -1)]) if missing else images
        output = self.session(filled)
        probabilities = getattr(output, self._scores).float().cpu()
        if self._scores == LOGITS:
            probabilities = probabilities.softmax(-1)
        maps: Any = [None] * len(images) if self._map is None else getattr(output, self._map).float().cpu()
        return [Prediction(probabilities[index], maps[index]) for index in range(len(images))]

    def blank(self) -> Tensor:
        """A preprocessed image of mean colour [C, H, W], to try the network on."""
        return torch.zeros(self.preprocessing.channels, *self.preprocessing.image_size)


def check_finite(prediction: Prediction) -> None:
    """Refuse NaN and infinity, which JSON cannot carry.

    Raises:
        Refusal: 500.
    """
    values = [prediction.probabilities] + ([] if prediction.attention is None else [prediction.attention])
    if not all(bool(value.isfinite().all()) for value in values):
        raise Refusal(500, "the network's output for this image is NaN or infinite")

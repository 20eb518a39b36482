from collections.abc import Sequence

from abn_fast._errors import AbnFastError
from abn_fast.data import Preprocessing
from abn_fast.export.metadata import Metadata
from abn_fast.export.ranges import BatchRange, SizeRange
from abn_fast.models._meta import image_channels
from abn_fast.modules import ImageNetwork


def describe(
    model: ImageNetwork,
    *,
    outputs: tuple[str, ...],
    precision: str,
    batch: BatchRange,
    size: SizeRange,
    preprocessing: Preprocessing | None = None,
    classes: Sequence[str] | None = None,
    gate: str = "standard",
) -> Metadata:
    """The metadata of a file made from a network.

    Raises:
        AbnFastError: class names or preprocessing that are not this network's.
    """
    channels = image_channels(model)
    if classes is not None and len(classes) != model.num_classes:
        raise AbnFastError(f"{len(classes)} class names for a model of {model.num_classes} classes")
    if preprocessing is not None and preprocessing.channels != channels:
        raise AbnFastError(f"preprocessing of {preprocessing.channels} channels for a model of {channels}")
    config = model.config
    return Metadata(
        outputs=outputs,
        precision=precision,
        batch=batch,
        size=size,
        channels=channels,
        num_classes=model.num_classes,
        model=None if config is None else config.name,
        arguments={} if config is None else config.arguments,
        classes=None if classes is None else tuple(classes),
        preprocessing=preprocessing,
        gate=gate,
    )

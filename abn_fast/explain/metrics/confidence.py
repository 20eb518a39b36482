from typing import NamedTuple

from torch import Tensor

from abn_fast.explain._checks import check_unit_range
from abn_fast.explain.metrics._faithfulness import Classify, check_faithfulness_inputs, probability


class ConfidenceChange(NamedTuple):
    """What is left of the target's probability when a map dims the image."""

    drop: Tensor
    """Share of the probability that is lost, max(0, p - q) / p, [N] in [0, 1]; low is good."""
    increase: Tensor
    """Whether it grew, q > p, bool [N]; often is good."""


def confidence_change(classify: Classify, images: Tensor, maps: Tensor, targets: Tensor) -> ConfidenceChange:
    """Average drop and increase in confidence: p of the image against q of map * image.

    In normalised images a map of 0 leaves the mean colour. A map that is 1 everywhere loses nothing, so that these two
    say how little a map takes away rather than how well it chooses: read them beside the controls.

    Args:
        classify: images -> probabilities [N, K].
        images: [N, C, H, W] as `classify` takes them.
        maps: [N, H, W] in [0, 1].
        targets: int64 [N].

    Raises:
        AbnFastError: maps outside [0, 1] or of another size than the images, wrong shape or dtype, NaN.

    Source: Chattopadhay et al., "Grad-CAM++: Generalized Gradient-Based Visual Explanations for Deep Convolutional
    Networks", WACV 2018.
    """
    check_faithfulness_inputs(images, maps, targets)
    check_unit_range(maps, "maps", "rescale(maps) stretches them")
    return change_from(probability(classify, images, targets), classify, images, maps, targets)


def change_from(before: Tensor, classify: Classify, images: Tensor, maps: Tensor, targets: Tensor) -> ConfidenceChange:
    """The same, with the probability in the images themselves known."""
    after = probability(classify, images * maps[:, None].to(images.dtype), targets)
    return ConfidenceChange((before - after).clamp(min=0) / before.clamp(min=1e-12), after > before)

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from abn_fast._errors import AbnFastError
from abn_fast.data import EditedMap, Preprocessing
from abn_fast.data.edited_map import Box, on_picture
from abn_fast.explain._files import write_png
from abn_fast.models._meta import meta_copy, meta_tensor
from abn_fast.modules import AttentionBranchNetwork, LogMapAttentionHead, MultiTaskABN


class Edited(NamedTuple):
    """A prediction with the network's own map and with one that a person has edited."""

    before: Tensor
    """Probabilities [K], or no and yes of each task, [T, 2]."""
    after: Tensor
    """The same with the edited map."""
    attention: Tensor
    """The network's own maps, [1 or T, h, w]."""
    edited: Tensor
    """Those that gated the features afterwards."""


def check_has_unit_map(model: nn.Module) -> AttentionBranchNetwork | MultiTaskABN:
    """The model itself, if its map lies in [0, 1].

    Raises:
        AbnFastError: it has no map, or the unbounded one of the published SE-ResNet.
    """
    if not isinstance(model, AttentionBranchNetwork | MultiTaskABN):
        raise AbnFastError(f"{type(model).__name__} is a plain classifier without attention map; use an abn_ model")
    if isinstance(model, AttentionBranchNetwork) and isinstance(model.attention_branch.head, LogMapAttentionHead):
        raise AbnFastError(
            "this network's map, sum_k log(1 + a_k), has no upper bound, so that no picture can hold it: give "
            "model(images, attention=...) a tensor"
        )
    return model


def check_editable(model: nn.Module) -> None:
    """Refuse a model that has not exactly one map, in [0, 1].

    Raises:
        AbnFastError: it has none, several or an unbounded one.
    """
    if isinstance(check_has_unit_map(model), MultiTaskABN):
        raise AbnFastError("a multi-task network has a map for each task; edited maps are of networks with one")


def map_size(model: nn.Module, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) of a model's map of a preprocessed picture; nothing is computed.

    Raises:
        AbnFastError: the model has no map.
    """
    model = check_has_unit_map(model)
    shape = (1, preprocessing.channels, *preprocessing.image_size)
    with torch.no_grad():
        attention = meta_copy(model).eval()(meta_tensor(shape, model)).attention
    return attention.shape[2], attention.shape[3]


@torch.inference_mode()
def predict_edited(model: nn.Module, image: Tensor, edited: EditedMap | None, task: int = 0) -> Edited:
    """What a model in evaluation mode says of an image before and after its map was edited.

    The edited map counts as far as it is known; the rest is the network's own: known * edited + (1 - known) * M.

    Args:
        model: an attention branch network.
        image: preprocessed, [C, H, W].
        edited: of the size of the network's map; None for its own.
        task: of a multi-task network, whose map was edited.

    Raises:
        AbnFastError: the model has no map in [0, 1] or no such task, the map another size, or the output is not finite.
    """
    model = check_has_unit_map(model)
    weight = next(model.parameters())
    images = image[None].to(weight.device, weight.dtype)
    own = model(images)
    attention = own.attention
    if not 0 <= task < attention.shape[1]:
        raise AbnFastError(f"task {task}; expected 0 to {attention.shape[1] - 1}")
    used, after = attention, own
    if edited is not None:
        if edited.size != attention.shape[2:]:
            raise AbnFastError(
                f"the edited map is {edited.size[0]}x{edited.size[1]}, the network's {list(attention.shape[2:])}"
            )
        used = blended(attention, edited, task)
        after = model(images, attention=used)
    probabilities = torch.stack([output.logits[0].float().softmax(-1).cpu() for output in (own, after)])
    if not bool(probabilities.isfinite().all()):
        raise AbnFastError("the model's output is NaN or infinite; its weights are damaged")
    return Edited(probabilities[0], probabilities[1], attention[0].float().cpu(), used[0].float().cpu())


def blended(attention: Tensor, edited: EditedMap, task: int = 0) -> Tensor:
    """Maps [N, T, h, w] with one task's replaced as far as the edited map is known."""
    values, known = (each.to(attention) for each in edited)
    used = attention.clone()
    used[:, task] = torch.lerp(attention[:, task], values, known)
    return used


def write_map(attention: Tensor, size: tuple[int, int], box: Box, path: str | Path) -> None:
    """Write a map as a grey picture to edit: black 0, white 1, transparent where the network sees nothing.

    Every value of the map becomes a block of equal pixels, so that the unedited picture stands for the same map, but
    for its 8 bits and for pixels that lie in two blocks.

    Args:
        attention: [h, w] in [0, 1].
        size: (height, width) of the picture that it is of.
        box: (left, top, right, bottom) of what the network sees of it.
        path: of the PNG.

    Raises:
        AbnFastError: the file cannot be written, or is called anything but NAME.png.
    """
    path = Path(path)
    if path.suffix.lower() != ".png":
        raise AbnFastError(f"{path}: a map is written as a grey picture NAME.png")
    known = torch.ones_like(attention)
    whole = on_picture(EditedMap(attention, known), size, (attention.shape[0], attention.shape[1]), box, str(path))
    grey, alpha = (np.asarray((part * 255).round().to(torch.uint8)) for part in whole)
    picture = Image.fromarray(grey)
    if alpha.min() < 255:
        picture.putalpha(Image.fromarray(alpha))
    write_png(picture, path)

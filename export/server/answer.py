import base64
import io
from collections.abc import Sequence
from typing import Any, Literal

from torch import Tensor

from abn_fast.explain import colorize, rescale, upsample
from abn_fast.explain._pixels import to_image
from abn_fast.export.server.predictor import Prediction

MapFormat = Literal["png", "array", "none"]


def answer(
    prediction: Prediction,
    classes: Sequence[str],
    top: int,
    map_format: MapFormat,
    image_size: tuple[int, int],
    box: tuple[float, float, float, float],
) -> dict[str, Any]:
    """What `/predict` answers, ready for JSON.

    Args:
        prediction: of one image.
        classes: names of the classes or tasks.
        top: classes to name, the most probable first; of tasks all are named.
        map_format: how to write the map.
        image_size: (height, width) that the network saw: the size of a PNG.
        box: (left, top, right, bottom) of what it saw, in pixels of the upright picture.
    """
    maps = prediction.attention if map_format != "none" else None
    if prediction.probabilities.ndim == 1:
        probabilities, order = prediction.probabilities.sort(descending=True, stable=True)
        shown = zip(probabilities[:top].tolist(), order[:top].tolist(), strict=True)
        result: dict[str, Any] = {
            "classes": [{"index": index, "name": classes[index], "probability": value} for value, index in shown]
        }
        if maps is not None:
            result["map"] = _map(maps[0], map_format, image_size)
    else:
        tasks = [_task(index, name, float(yes)) for index, (name, yes) in enumerate(_yes(prediction, classes))]
        for index, task in enumerate(tasks if maps is not None else []):
            task["map"] = _map(maps[index], map_format, image_size)  # type: ignore[index]  # not None here
        result = {"tasks": tasks}
    if maps is not None:
        result["map_box"] = [round(edge, 3) for edge in box]
    return result


def _yes(prediction: Prediction, classes: Sequence[str]) -> Any:
    return zip(classes, prediction.probabilities[:, 1].tolist(), strict=True)


def _task(index: int, name: str, probability: float) -> dict[str, Any]:
    return {"index": index, "name": name, "answer": probability > 0.5, "probability": probability}


def _map(attention: Tensor, map_format: MapFormat, image_size: tuple[int, int]) -> dict[str, Any]:
    """A map [h, w]: its values, or its colours at `image_size`, stretched to their range, as base64 of a PNG."""
    if map_format == "array":
        return {"format": "array", "shape": list(attention.shape), "values": attention.tolist()}
    shown = rescale(upsample(attention[None, None], image_size))
    file = io.BytesIO()
    to_image(colorize(shown)[0]).save(file, format="PNG")
    return {
        "format": "png",
        "range": [float(attention.min()), float(attention.max())],
        "data": base64.b64encode(file.getvalue()).decode("ascii"),
    }

from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.checkpoints import read_checkpoint
from abn_fast.data import EditedMap, Preprocessing
from abn_fast.explain import explain_each, methods_of, top_class_evidence, upsample
from abn_fast.explain.edit import check_has_unit_map, predict_edited
from abn_fast.export import InferenceSession
from abn_fast.export.outputs import ATTENTION, ATTENTION_UPSAMPLED, CLASS_EVIDENCE, LOGITS, PROBABILITIES
from abn_fast.export.runtimes.table import RUNTIMES
from abn_fast.modules import TaskClassifier
from abn_fast.training import choose_device

TOP = 5
"""Classes whose evidence is shown."""


class Shown(NamedTuple):
    """What is shown of one picture; maps are in [0, 1]."""

    probabilities: Tensor
    """[K], or no and yes of each task, [T, 2]."""
    attention: Tensor | None
    """[1 or T, h, w], as the network computes it."""
    evidence: list[tuple[int, Tensor]]
    """Class and map [H, W] of the likeliest classes, likeliest first."""
    grad_cam: Tensor | None
    """[H, W], of the likeliest class, or of a task's answer."""


class Explainer(Protocol):
    """A network as the page uses it.

    Attributes:
        name: of the file.
        about: of the network and what computes it, for people.
        preprocessing: from a picture to what the network sees.
        classes: names of the classes or tasks.
        tasks: whether they are tasks.
        no_painting: why its map cannot be painted on; None if it can.
        notes: what else the page cannot show, and why.
    """

    name: str
    about: str
    preprocessing: Preprocessing
    classes: tuple[str, ...]
    tasks: bool
    no_painting: str | None
    notes: list[str]

    def explain(self, image: Tensor, size: tuple[int, int], task: int) -> Shown:
        """All there is to show of a preprocessed image [C, H, W]; maps have (height, width) `size`."""

    def predict(self, image: Tensor, edited: EditedMap, task: int) -> Tensor:
        """The probabilities with an edited map.

        Raises:
            AbnFastError: the map has another size, or cannot be edited.
        """


def open_explainer(path: Path, runtime: str = "auto", device: str | None = None) -> Explainer:
    """A checkpoint or an exported file for the page.

    Raises:
        AbnFastError: no such file, not abn_fast's, or it does not say how pictures are preprocessed.
    """
    exported = any(path.suffix in known.suffixes for name, known in RUNTIMES.items() if name != "torch")
    if exported or runtime not in ("auto", "torch"):
        return FileExplainer(path, InferenceSession(path, runtime, device=device))
    return CheckpointExplainer(path, device)


class CheckpointExplainer:
    """A network in torch: all methods, and its map may be painted on."""

    def __init__(self, path: Path, device: str | None = None) -> None:
        loaded = read_checkpoint(path)
        self.name = path.name
        self.preprocessing = _checked(loaded.preprocessing)
        chosen = choose_device(device)
        self.model = loaded.model.to(chosen).eval()
        config = self.model.config
        self.about = f"{config.name if config else 'a network'}, {self.model.num_classes} classes, torch on {chosen}"
        self.classes = tuple(loaded.classes or [f"class {index}" for index in range(self.model.num_classes)])
        self.tasks = isinstance(self.model.get_classifier(), TaskClassifier)
        self.no_painting: str | None = None
        self.notes: list[str] = []
        self._methods = methods_of(self.model)
        try:
            check_has_unit_map(self.model)
        except AbnFastError as error:
            self.no_painting = f"Painting is off: {error}."
        if "class-evidence" not in self._methods:
            self.notes.append("No class evidence: only an attention branch network of classes has it.")

    def explain(self, image: Tensor, size: tuple[int, int], task: int) -> Shown:
        """As `Explainer.explain`."""
        images = image[None]
        wanted = [name for name in ("abn", "gradcam") if name in self._methods]
        explained = explain_each(self.model, images, wanted, size=size)
        probabilities = explained.logits[0].float().softmax(-1).cpu()
        grad_cam = explained.maps["gradcam"][0].cpu() if "gradcam" in explained.maps else None
        if grad_cam is not None and grad_cam.ndim == 3:
            grad_cam = grad_cam[task]
        evidence: list[tuple[int, Tensor]] = []
        if "class-evidence" in self._methods:
            top = top_class_evidence(self.model, images, min(TOP, len(self.classes)), size=size)
            evidence = list(zip(top.classes[0].tolist(), top.maps[0].cpu(), strict=True))
        attention: Tensor | None = None
        if self.no_painting is None:
            attention = predict_edited(self.model, image, None).attention
        elif "abn" in explained.maps:
            attention = explained.maps["abn"].cpu()
        return Shown(probabilities, attention, evidence, grad_cam)

    def predict(self, image: Tensor, edited: EditedMap, task: int) -> Tensor:
        """As `Explainer.predict`."""
        return predict_edited(self.model, image, edited, task).after


class FileExplainer:
    """An exported file: what its outputs are, and no gradients."""

    def __init__(self, path: Path, session: InferenceSession) -> None:
        metadata = session.metadata
        if not {LOGITS, PROBABILITIES} & set(metadata.outputs):
            raise AbnFastError(f"{path} has {', '.join(metadata.outputs)}; the page needs logits or probabilities")
        self.name, self.session = path.name, session
        self.preprocessing = _checked(session.preprocessing)
        self.about = f"{metadata.model or 'a network'}, {metadata.num_classes} classes, {session.runtime} on "
        self.about += f"{session.provider}, {metadata.precision}"
        self.classes = session.classes or tuple(f"class {index}" for index in range(metadata.num_classes))
        self.tasks = "multi_task" in (metadata.model or "")
        self.no_painting: str | None = None
        if session.map_size is None:
            self.no_painting = (
                f"Painting is off: {path.name} takes no map, it computes its own. Export it with --gate editable, or "
                "start the page with the checkpoint: abn-fast demo CHECKPOINT."
            )
        self.notes = ["No Grad-CAM: an exported file has no gradients; a checkpoint has."]
        if not {ATTENTION, ATTENTION_UPSAMPLED} & set(metadata.outputs):
            self.notes.append("No map: the file has none; export with --outputs logits,attention.")
        if CLASS_EVIDENCE not in metadata.outputs:
            self.notes.append("No class evidence: export with --outputs logits,attention,class_evidence.")
        else:
            self.notes.append(
                "The class evidence of an exported file is its maps a, which the attention branch mixes into every "
                "class; that of a checkpoint is what counts for a class."
            )

    def explain(self, image: Tensor, size: tuple[int, int], task: int) -> Shown:
        """As `Explainer.explain`."""
        metadata = self.session.metadata
        images = image[None].expand(metadata.batch.low, -1, -1, -1)  # a file may take more at a time
        computed = self.session(images)
        probabilities = self._probabilities(computed)
        outputs = {name: value[0].float().cpu() for name, value in computed._asdict().items()}
        attention = outputs.get(ATTENTION, outputs.get(ATTENTION_UPSAMPLED))
        if attention is not None and float(attention.max()) > 1:  # the unbounded map of the published SE-ResNet
            attention = attention / attention.max()
        evidence: list[tuple[int, Tensor]] = []
        if CLASS_EVIDENCE in outputs:
            chosen = probabilities.argsort(descending=True, stable=True)[:TOP]
            maps = upsample(outputs[CLASS_EVIDENCE][chosen], size)
            maps = maps / maps.max().clamp_min(torch.finfo(maps.dtype).tiny)
            evidence = list(zip(chosen.tolist(), maps, strict=True))
        return Shown(probabilities, attention, evidence, None)

    def predict(self, image: Tensor, edited: EditedMap, task: int) -> Tensor:
        """As `Explainer.predict`."""
        size = self.session.map_size
        if size is None:
            raise AbnFastError(self.no_painting or "")
        if edited.size != size:
            raise AbnFastError(f"the edited map is {edited.size[0]}x{edited.size[1]}, the network's {list(size)}")
        batch = self.session.metadata.batch.low
        values, known = (each.expand(batch, 1, -1, -1) for each in edited)
        return self._probabilities(self.session.with_map(image[None].expand(batch, -1, -1, -1), values, known))

    def _probabilities(self, outputs: Any) -> Tensor:
        """Those of the first image."""
        if PROBABILITIES in self.session.metadata.outputs:
            return cast(Tensor, outputs.probabilities)[0].float().cpu()
        return cast(Tensor, outputs.logits)[0].float().cpu().softmax(-1)


def _checked(preprocessing: Preprocessing | None) -> Preprocessing:
    if preprocessing is None:
        raise AbnFastError("the file does not say how pictures are preprocessed: save_checkpoint(preprocessing=...)")
    return preprocessing

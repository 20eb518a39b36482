from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    pass


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@click.option("--methods", default="abn", show_default=True, help="abn,class-evidence,cam,gradcam,gradcam++ or all.")
@click.option("--sheet", is_flag=True, help="Also OUT/methods.png: a row an image, a column a method.")
@click.option("--classes", type=int, metavar="COUNT", help="Also OUT/NAME-classes.png: evidence of so many classes.")
@click.option("--out", default="runs/explain", show_default=True, type=click.Path(), help="Folder of the pictures.")
@click.option("--mode", type=click.Choice(["bilinear", "bicubic", "nearest"]), default="bilinear", show_default=True)
@click.option("--colormap", default="jet", show_default=True, help="Any of matplotlib's.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
def explain(
    checkpoint: str,
    images: tuple[str, ...],
    methods: str,
    sheet: bool,
    classes: int | None,
    out: str,
    mode: str,
    colormap: str,
    device: str | None,
) -> None:
    """Classify images with CHECKPOINT and draw where it looks.

    For each image, OUT gets NAME-image.png, NAME-attention.png and NAME-overlay.png, at the image's own size; of other
    methods NAME-METHOD.png and NAME-METHOD-overlay.png. A multi-task model gives NAME-tasks.png, a map a task.
    """
    from abn_fast._errors import AbnFastError
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.explain import (
        explain_images,
        methods_of,
        write_class_evidence_sheets,
        write_method_sheets,
        write_task_sheets,
    )
    from abn_fast.modules import TaskClassifier
    from abn_fast.training import choose_device

    loaded = read_checkpoint(checkpoint)
    if loaded.preprocessing is None:
        raise AbnFastError(f"{checkpoint} does not say how images are preprocessed: save it with preprocessing=...")
    names = loaded.classes or [f"class {index}" for index in range(loaded.model.num_classes)]
    model = loaded.model.to(choose_device(device))
    named = dict.fromkeys(name.strip() for name in methods.split(","))
    chosen = list(methods_of(model) if methods == "all" else named)
    look: Any = {"mode": mode, "colormap": colormap}
    if isinstance(model.get_classifier(), TaskClassifier):
        if sheet or classes is not None:
            raise AbnFastError("a multi-task model's maps are in NAME-tasks.png: leave out --sheet and --classes")
        for method in chosen:
            _say(write_task_sheets(model, images, loaded.preprocessing, names, out, method, **look))
        return
    done: list[Path] = []
    unreadable: AbnFastError | None = None
    try:
        for one in explain_images(model, images, loaded.preprocessing, names, out, methods=chosen, **look):
            click.echo(f"{one.path}: {one.label} {one.confidence:.1%} -> {one.files[-1]}")
            done.append(one.path)
    except AbnFastError as error:
        unreadable = error
    if sheet and done:
        _say(write_method_sheets(model, done, loaded.preprocessing, names, out, chosen, **look))
    if classes is not None and done:
        _say(write_class_evidence_sheets(model, done, loaded.preprocessing, names, out, classes, **look))
    if unreadable is not None:
        raise unreadable


def _say(files: Iterable[Path]) -> None:
    for file in files:
        click.echo(f"-> {file}")

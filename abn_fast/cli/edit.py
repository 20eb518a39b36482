from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

    from abn_fast.explain.edit import Edited


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("image", type=click.Path(path_type=Path))
@click.option("--map", "edited", type=click.Path(path_type=Path), help="Edited map: a grey picture, or a .npy file.")
@click.option("--save-map", type=click.Path(path_type=Path), help="Write the network's own map here, to be edited.")
@click.option("--task", help="Name of the task whose map it is, for a multi-task network.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="Classes to show.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
def edit(
    checkpoint: str,
    image: Path,
    edited: Path | None,
    save_map: Path | None,
    task: str | None,
    top: int,
    device: str | None,
) -> None:
    """Show how CHECKPOINT's prediction of IMAGE changes with an edited attention map.

    First --save-map MAP.png writes the network's own map, black 0 and white 1, each of its values a block of the
    image's pixels. Change it in any painter, then give it as --map MAP.png. It may have the image's size, or the
    network's map's; transparent pixels keep the network's own values.
    """
    from abn_fast._checks import checked_choice
    from abn_fast._errors import AbnFastError
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.data import load_image, read_edited_map
    from abn_fast.data.edited_map import on_map
    from abn_fast.explain.edit import map_size, predict_edited, write_map
    from abn_fast.modules import MultiTaskABN
    from abn_fast.training import choose_device

    if (edited is None) == (save_map is None):
        raise click.UsageError("give --save-map MAP.png to write the map, or --map MAP.png to use an edited one")
    loaded = read_checkpoint(checkpoint)
    seen = loaded.preprocessing
    if seen is None:
        raise AbnFastError(f"{checkpoint} does not say how images are preprocessed: save it with preprocessing=...")
    classes = loaded.classes or [f"class {index}" for index in range(loaded.model.num_classes)]
    tasks = isinstance(loaded.model, MultiTaskABN)
    if tasks != (task is not None):
        expected = f"one of {', '.join(classes)}" if tasks else "none, for the network has one map"
        raise AbnFastError(f"--task {task or 'is missing'}: expected {expected}")
    chosen = 0 if task is None else classes.index(checked_choice("task", task, classes))
    cells = map_size(loaded.model, seen)
    picture = load_image(image)
    size, box = (picture.height, picture.width), seen.crop_box(*picture.size)
    given = None if edited is None else on_map(read_edited_map(edited), size, cells, box, str(edited))
    model = loaded.model.to(choose_device(device))
    result = predict_edited(model, seen(picture), given, chosen)
    if save_map is not None:
        if save_map.resolve() == image.resolve():
            raise AbnFastError(f"the map would overwrite the image {image}; choose another --save-map")
        write_map(result.attention[chosen], size, box, save_map)
        click.echo(f"{save_map}: the map of {image}, {cells[0]}x{cells[1]} values in {size[0]}x{size[1]} pixels")
        return
    click.echo(_table(result, classes, top, image, chosen))


def _table(result: "Edited", classes: "Sequence[str]", top: int, image: Path, task: int) -> str:
    """The classes that are likeliest before and after, with both probabilities."""
    changed = (result.edited - result.attention)[task].abs()
    width = max(len(name) for name in classes)
    lines = [
        f"{image}: the map differs by {changed.mean():.3f} in the mean, at most {changed.max():.3f}",
        f"{'':{width}}  {'before':>8}  {'after':>8}",
    ]
    if result.before.ndim == 2:
        chosen, before, after = list(range(len(classes))), result.before[:, 1], result.after[:, 1]
    else:
        order = [each.argsort(descending=True, stable=True).tolist() for each in (result.after, result.before)]
        chosen, before, after = list(dict.fromkeys(order[0][:top] + order[1][:top])), result.before, result.after
    lines += [f"{classes[index]:{width}}  {before[index]:8.1%}  {after[index]:8.1%}" for index in chosen]
    return "\n".join(lines)

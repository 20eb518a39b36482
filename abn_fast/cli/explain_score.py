from pathlib import Path

import click

from abn_fast.cli._data import data_options, open_data, validation_option


@click.command()
@click.argument("checkpoint", type=click.Path())
@data_options
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@validation_option
@click.option("--methods", help="For example abn,class-evidence,cam,gradcam; by default all that the model can.")
@click.option("--metrics", help="For example pointing-game,energy; by default all that the data allows.")
@click.option("--task", help="Name of the attribute whose maps are scored, for a multi-task model.")
@click.option("--images", type=int, default=500, show_default=True, help="How many, drawn by --seed.")
@click.option("--mode", type=click.Choice(["bilinear", "bicubic", "nearest"]), default="bilinear", show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--batch-size", type=int, default=100, show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
@click.option("--workers", type=int, help="Processes that load images; by default one a core, up to 8, for files.")
@click.option("--out", default="runs/explain-score", show_default=True, type=click.Path(), help="Folder of the files.")
def explain_score(
    checkpoint: str,
    data: str,
    root: str,
    download: bool,
    image_size: int | None,
    split: str,
    validation: "float | int | str | None",
    methods: str | None,
    metrics: str | None,
    task: str | None,
    images: int,
    mode: str,
    seed: int,
    batch_size: int,
    device: str | None,
    workers: int | None,
    out: str,
) -> None:
    """Score how well the maps of CHECKPOINT locate the object and tell what the prediction rests on.

    A table of methods, with random, centred and inverted maps as controls; OUT gets scores.csv and scores.png. Metrics
    of location need boxes: digits-in-the-wild has them, CelebA's come from list_landmarks_align_celeba.txt (the
    rectangle of the five points, wider by half on each side), a folder's from NAME.xml beside NAME.jpg, as in PASCAL
    VOC. Figures are percentages of the images, of the map or of the predicted class's probability.
    """
    from abn_fast._checks import checked_whole
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.cli._score_table import score_table, write_score_chart, write_score_csv
    from abn_fast.cli.train import channels_last
    from abn_fast.data.boxes import object_boxes
    from abn_fast.explain import methods_of
    from abn_fast.explain.score import score_methods
    from abn_fast.training import choose_device
    from abn_fast.training._feed import workers_for

    checked_whole("images", images)
    loaded = read_checkpoint(checkpoint)
    channels_last(loaded.model, choose_device(device))
    dataset = open_data(
        data,
        root,
        download,
        image_size,
        split=split,
        validation=validation,
        classes=loaded.classes,
        preprocessing=loaded.preprocessing,
    )
    part = dataset.select(_chosen(len(dataset), images, seed))
    part.boxes = object_boxes(part)
    rows = score_methods(
        loaded.model,
        part,
        _names(methods) or list(methods_of(loaded.model)),
        metrics=_names(metrics),
        mode=mode,  # type: ignore[arg-type]  # click offers just these
        task=None if task is None else _task_number(task, part.classes),
        batch_size=batch_size,
        workers=workers_for(part) if workers is None else workers,
        seed=seed,
        progress=True,
    )
    folder = Path(out)
    write_score_csv(rows, folder / "scores.csv")
    write_score_chart(rows, folder / "scores.png")
    known = 0 if part.boxes is None else int(part.boxes.isfinite().all(1).sum())
    click.echo(f"{len(part)} images, {known} with boxes; maps resampled {mode}; ↑ high and ↓ low is good\n")
    click.echo(score_table(rows))
    click.echo(f"\n{folder / 'scores.csv'}, {folder / 'scores.png'}")


def _names(text: str | None) -> list[str] | None:
    return None if text is None else [name.strip() for name in text.split(",") if name.strip()]


def _chosen(available: int, images: int, seed: int) -> list[int]:
    """The numbers of the images, in order."""
    import torch

    order = torch.randperm(available, generator=torch.Generator().manual_seed(seed))
    return sorted(order[:images].tolist())


def _task_number(task: str, tasks: list[str]) -> int:
    from abn_fast._checks import checked_choice

    return tasks.index(checked_choice("task", task, tasks))

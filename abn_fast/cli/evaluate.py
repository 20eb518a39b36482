import click

from abn_fast.cli._data import data_options, line_of, open_data, validation_option


@click.command()
@click.argument("checkpoint", type=click.Path())
@data_options
@click.option("--split", type=click.Choice(["train", "validation", "test"]), default="test", show_default=True)
@validation_option
@click.option("--batch-size", type=int, default=128, show_default=True)
@click.option("--precision", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", show_default=True)
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
@click.option("--workers", type=int, help="Processes that load images; by default one a core, up to 8, for files.")
def evaluate(
    checkpoint: str,
    data: str,
    root: str,
    download: bool,
    image_size: int | None,
    split: str,
    validation: "float | int | str | None",
    batch_size: int,
    precision: str,
    device: str | None,
    workers: int | None,
) -> None:
    """Accuracies of CHECKPOINT on a data set; where boxes are known, also how well its map finds them."""
    from abn_fast._checks import checked_whole
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.cli.train import channels_last
    from abn_fast.training import choose_device
    from abn_fast.training import evaluate as evaluate_model
    from abn_fast.training._feed import workers_for

    checked_whole("batch_size", batch_size)
    loaded = read_checkpoint(checkpoint)
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
    channels_last(loaded.model, choose_device(device))
    metrics = evaluate_model(
        loaded.model,
        dataset,
        batch_size=batch_size,
        precision=precision,  # type: ignore[arg-type]  # click offers just these
        workers=workers_for(dataset) if workers is None else workers,
        progress=True,
    )
    click.echo(f"{len(dataset)} images: {line_of(metrics)}")

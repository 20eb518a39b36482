import click


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.argument("images", nargs=-1, required=True, type=click.Path(), metavar="IMAGE...")
@click.option("--out", default="runs/explain", show_default=True, type=click.Path(), help="Folder of the pictures.")
@click.option("--mode", type=click.Choice(["bilinear", "bicubic", "nearest"]), default="bilinear", show_default=True)
@click.option("--colormap", default="jet", show_default=True, help="Any of matplotlib's.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
def explain(checkpoint: str, images: tuple[str, ...], out: str, mode: str, colormap: str, device: str | None) -> None:
    """Classify images with CHECKPOINT and draw where it looks.

    For each image, OUT gets NAME-image.png, NAME-attention.png and NAME-overlay.png, at the image's own size.
    """
    from abn_fast._errors import AbnFastError
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.explain import explain_images
    from abn_fast.training import choose_device

    loaded = read_checkpoint(checkpoint)
    if loaded.preprocessing is None:
        raise AbnFastError(f"{checkpoint} does not say how images are preprocessed: save it with preprocessing=...")
    classes = loaded.classes or [f"class {index}" for index in range(loaded.model.num_classes)]
    model = loaded.model.to(choose_device(device))
    for explanation in explain_images(
        model,
        images,
        loaded.preprocessing,
        classes,
        out,
        mode=mode,  # type: ignore[arg-type]  # click offers just these
        colormap=colormap,
    ):
        click.echo(f"{explanation.path}: {explanation.label} {explanation.confidence:.1%} -> {explanation.files[-1]}")

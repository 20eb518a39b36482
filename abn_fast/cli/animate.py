import click


@click.command()
@click.argument("checkpoints", nargs=-1, required=True, type=click.Path(), metavar="CHECKPOINT...")
@click.option("--image", "images", multiple=True, required=True, type=click.Path(), help="May be given several times.")
@click.option("--out", default="runs/training.gif", show_default=True, type=click.Path(), help="The GIF.")
@click.option("--method", default="abn", show_default=True, help="abn, class-evidence, cam, gradcam or gradcam++.")
@click.option("--seconds", default=0.5, show_default=True, help="How long a frame is shown.")
@click.option("--mode", type=click.Choice(["bilinear", "bicubic", "nearest"]), default="bilinear", show_default=True)
@click.option("--colormap", default="jet", show_default=True, help="Any of matplotlib's.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one.")
def animate(
    checkpoints: tuple[str, ...],
    images: tuple[str, ...],
    out: str,
    method: str,
    seconds: float,
    mode: str,
    colormap: str,
    device: str | None,
) -> None:
    """Show in a GIF how the maps of images change from CHECKPOINT to CHECKPOINT of one training."""
    from abn_fast.explain import animate_training
    from abn_fast.training import choose_device

    animate_training(
        checkpoints,
        images,
        out,
        method=method,
        seconds=seconds,
        device=choose_device(device),
        mode=mode,  # type: ignore[arg-type]  # click offers just these
        colormap=colormap,
    )
    click.echo(f"{len(checkpoints)} checkpoints, {len(images)} images -> {out}")

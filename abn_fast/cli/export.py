import click


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.option("--out", type=click.Path(), help="ONNX file; by default beside the checkpoint.")
@click.option("--size", type=int, nargs=2, metavar="HEIGHT WIDTH", help="By default the checkpoint's image size.")
def export(checkpoint: str, out: str | None, size: tuple[int, int] | None) -> None:
    """Write CHECKPOINT as ONNX (logits and attention map, any batch and image size) and prove it with ONNX Runtime."""
    from pathlib import Path

    from abn_fast._errors import AbnFastError
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.export import export_onnx

    loaded = read_checkpoint(checkpoint)
    if size is None:
        if loaded.preprocessing is None:
            raise AbnFastError(f"{checkpoint} does not state an image size: give --size HEIGHT WIDTH")
        size = loaded.preprocessing.image_size
    path = Path(out) if out else Path(checkpoint).with_suffix(".onnx")
    parity = export_onnx(loaded.model, path, size)
    click.echo(f"{path}: largest difference to torch, as a share of each output's largest value")
    for name, difference in parity.items():
        click.echo(f"  {name:10} {difference:.1e}")

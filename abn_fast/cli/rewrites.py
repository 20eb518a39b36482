from pathlib import Path

import click


@click.command()
@click.argument("model")
@click.option("--size", help="SIDE or HEIGHTxWIDTH of the images.  [default: the checkpoint's, or 224]")
@click.option("--batch", default=1, show_default=True, type=click.IntRange(1), help="Images at a time.")
@click.option("--dtype", default="float16", show_default=True, help="Of the last row: float16, bfloat16 or float32.")
@click.option(
    "--outputs",
    help="Any of logits, attention, attention_logits, class_evidence, separated by commas.  "
    "[default: logits,attention]",
)
def rewrites(model: str, size: str | None, batch: int, dtype: str, outputs: str | None) -> None:
    """Print the FLOPs and bytes of MODEL before and after each rewrite that makes it ready for inference.

    MODEL is a checkpoint or a model's name, as of `abn-fast models`. Nothing is computed: the numbers are those of the
    operations, of a multiplication and an addition two, and of all that each of them reads and writes.
    """
    import torch

    from abn_fast._checks import checked_choice
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.export import SizeRange, rewrite_costs
    from abn_fast.models import create_model

    checked_choice("dtype", dtype, ["float16", "bfloat16", "float32"])
    pixels = (224, 224)
    if Path(model).suffix or Path(model).exists():
        loaded = read_checkpoint(model)
        network = loaded.model
        pixels = loaded.preprocessing.image_size if loaded.preprocessing else pixels
    else:
        with torch.device("meta"):
            network = create_model(model)
    if size is not None:
        pixels = SizeRange.parse(size).best
    names = None if outputs is None else tuple(name.strip() for name in outputs.split(","))
    rows = rewrite_costs(network, pixels, batch, getattr(torch, dtype), names)
    width = max(len(row.rewrite) for row in rows)
    click.echo(f"{model}, {batch} x {pixels[0]}x{pixels[1]}")
    click.echo(f"{'':{width}}{'GFLOPs':>12}{'':8}{'MB':>10}")
    for row in rows:
        flops, moved = row.flops / rows[0].flops, row.bytes / rows[0].bytes
        click.echo(f"{row.rewrite:{width}}{row.flops / 1e9:12.3f}{flops:8.1%}{row.bytes / 1e6:10.2f}{moved:8.1%}")

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="The metadata alone, as JSON.")
def describe(file: Path, as_json: bool) -> None:
    """Show what an exported FILE or a checkpoint says about itself: tensors, classes, preprocessing.

    Of an ONNX file also the command that makes it a TensorRT engine.
    """
    from abn_fast.export.description import description, file_metadata

    click.echo(file_metadata(file).to_json() if as_json else description(file))

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--against", required=True, type=click.Path(path_type=Path), help="The checkpoint that FILE came from.")
@click.option("--runtime", default="auto", show_default=True, help="What runs FILE; auto goes by its suffix.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one that the runtime can use.")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photographs to compare on.")
def verify(file: Path, against: Path, runtime: str, device: str | None, images: Path | None) -> None:
    """Prove again that an exported FILE is the network in a checkpoint; the exit code is not 0 if it is not.

    The table is printed and kept beside the file as NAME.proof.json.
    """
    from abn_fast.export import verify as verify_file

    proof = verify_file(file, against, runtime=runtime, device=device, images=images)
    click.echo(proof.table())
    proof.check()

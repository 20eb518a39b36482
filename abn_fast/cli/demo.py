from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--images", type=click.Path(path_type=Path), help="Folder of sample pictures to choose from.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="0 for any free one.")
@click.option("--runtime", default="auto", show_default=True, help="What runs FILE; auto goes by its suffix.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one that the runtime can use.")
@click.option("--max-bytes", default=10 * 1024 * 1024, show_default=True, help="Of an upload.")
@click.option("--max-pixels", default=50_000_000, show_default=True, help="Of a picture.")
def demo(
    file: Path,
    images: Path | None,
    host: str,
    port: int,
    runtime: str,
    device: str | None,
    max_bytes: int,
    max_pixels: int,
) -> None:
    """Show a page on which a person tries FILE, a checkpoint or an exported file, and paints on its attention map.

    It shows the prediction, the attention map, the class evidence of the five likeliest classes and Grad-CAM. After
    each stroke of the brush the picture is classified again with the painted map, which can be saved for
    `abn-fast train --edited-maps`. Of an exported file it shows what its outputs are, without painting and Grad-CAM.
    """
    from abn_fast.export.server import ServerSettings, require_serve

    require_serve()
    settings = ServerSettings(max_bytes=max_bytes, max_pixels=max_pixels, max_queue=16)
    from abn_fast.demo.app import create_demo
    from abn_fast.demo.explainer import open_explainer
    from abn_fast.export.server.run import serve_app

    explainer = open_explainer(file, runtime, device)
    app = create_demo(explainer, settings, images)
    serve_app(app, host, port, lambda url: click.echo(f"abn-fast: {file} ({explainer.about}) on {url}"))

from pathlib import Path

import click


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; 0.0.0.0 for all.")
@click.option("--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="0 for any free one.")
@click.option("--runtime", default="auto", show_default=True, help="What runs FILE; auto goes by its suffix.")
@click.option("--device", help="cpu, cuda, cuda:1; by default the GPU if there is one that the runtime can use.")
@click.option("--threads", type=click.IntRange(1), help="Of onnxruntime.")
@click.option("--max-batch", type=click.IntRange(1), help="Images at a time.  [default: FILE's best]")
@click.option("--max-wait", default=2.0, show_default=True, help="Milliseconds an image waits for others.")
@click.option("--max-queue", default=256, show_default=True, help="Requests at once; further ones get 503.")
@click.option("--max-bytes", default=10 * 1024 * 1024, show_default=True, help="Of a request's body.")
@click.option("--max-pixels", default=50_000_000, show_default=True, help="Of an image.")
def serve(
    file: Path,
    host: str,
    port: int,
    runtime: str,
    device: str | None,
    threads: int | None,
    max_batch: int | None,
    max_wait: float,
    max_queue: int,
    max_bytes: int,
    max_pixels: int,
) -> None:
    """Serve FILE, an exported file or a checkpoint, over HTTP.

    POST /predict takes an image as the body or as the form field `image`, and ?top=5, ?map=png|array|none. GET /health
    makes a forward pass, GET /metrics is Prometheus'. SIGTERM ends it once the requests under way are answered.
    """
    from abn_fast.export.server import ServerSettings, require_serve

    require_serve()
    settings = ServerSettings(max_batch, max_wait, max_queue, max_bytes, max_pixels)
    from abn_fast.export import InferenceSession
    from abn_fast.export.server.run import serve as serve_session

    session = InferenceSession(file, runtime, device=device, threads=threads)

    def tell(url: str) -> None:
        what = f"{session.runtime} ({session.provider}), {session.metadata.precision}"
        click.echo(f"abn-fast: {file} by {what}, on {url}")

    serve_session(session, settings, host, port, tell)

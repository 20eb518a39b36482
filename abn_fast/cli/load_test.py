from pathlib import Path

import click


@click.command("load-test")
@click.argument("url")
@click.option("--clients", default=64, show_default=True, type=click.IntRange(1), help="At the same time.")
@click.option("--seconds", default=60.0, show_default=True, type=click.FloatRange(0.1), help="To go on sending.")
@click.option(
    "--images", type=click.Path(path_type=Path), help="Folder of photographs to send; by default made up ones."
)
@click.option("--map", "map_format", type=click.Choice(["png", "array", "none"]), default="array", show_default=True)
def load_test(url: str, clients: int, seconds: float, images: Path | None, map_format: str) -> None:
    """Send images to an `abn-fast serve` at URL from many clients; print errors, latency and images/s.

    The exit code is not 0 if there was an error.
    """
    from abn_fast._errors import AbnFastError
    from abn_fast._optional import require
    from abn_fast.export.image_folder import image_paths

    require("httpx", extra="serve", purpose="abn-fast load-test")
    from abn_fast.export.server.load_test import load_test as run_load_test
    from abn_fast.export.server.sample_images import sample_images

    files = sample_images() if images is None else [path.read_bytes() for path in image_paths(images, "images")]
    report = run_load_test(url, files, clients=clients, seconds=seconds, query=f"map={map_format}")
    click.echo(report.text())
    if report.errors or not report.latencies:
        raise AbnFastError(f"{report.errors.total()} of the requests failed")

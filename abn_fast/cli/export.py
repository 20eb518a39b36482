from pathlib import Path

import click


@click.command()
@click.argument("checkpoint", type=click.Path())
@click.option(
    "--format", "format_name", default="onnx", show_default=True, help="onnx, openvino, tensorrt or tensorrt-rtx."
)
@click.option("--precision", default="fp32", show_default=True, help="fp32, fp16, bf16, int8 or fp8.")
@click.option(
    "--outputs",
    help="Any of logits, attention, attention_logits, class_evidence, probabilities, attention_upsampled, separated "
    "by commas.  [default: logits,attention]",
)
@click.option("--batch", default="1:8:64", show_default=True, help="N, or LOWEST:BEST:HIGHEST.")
@click.option("--size", help="SIDE or HEIGHTxWIDTH, or three of them: 128:224:512.  [default: around the checkpoint's]")
@click.option(
    "--gate",
    default="standard",
    show_default=True,
    help="standard: operators that all runtimes have; function: one node abn_fast::attention_gate for plugins; "
    "editable: standard ones, and inputs that put another map in the place of the network's own (abn-fast demo).",
)
@click.option("--plugin", is_flag=True, help="Have this library's own kernel compute the gate in an engine.")
@click.option("--targets", help="Cards that an engine is built for, as sm_86,sm_89.  [default: all from sm_80 on]")
@click.option("--images", type=click.Path(path_type=Path), help="Folder of photographs to compare on.")
@click.option(
    "--calibration", type=click.Path(path_type=Path), help="Folder of photographs that int8 and fp8 are calibrated on."
)
@click.option("--quantize-for", help="cpu or tensorrt: which int8.  [default: what the format runs on]")
@click.option("--keep-float", help="What stays float32 in int8 and fp8: any of first, last, map, separated by commas.")
@click.option("--out", type=click.Path(path_type=Path), help="File to write; by default beside the checkpoint.")
@click.option(
    "--server",
    type=click.Path(path_type=Path),
    help="Also put the file into this model repository of the NVIDIA Triton Inference Server.",
)
def export(
    checkpoint: str,
    format_name: str,
    precision: str,
    outputs: str | None,
    batch: str,
    size: str | None,
    gate: str,
    plugin: bool,
    targets: str | None,
    images: Path | None,
    calibration: Path | None,
    quantize_for: str | None,
    keep_float: str | None,
    out: Path | None,
    server: Path | None,
) -> None:
    """Write CHECKPOINT as a file for deployment and prove that it is the same network.

    The proof's table is printed and kept beside the file as NAME.proof.json. A file that failed is kept as
    NAME.rejected, and the exit code is not 0.
    """
    from abn_fast._checks import checked_choice
    from abn_fast._errors import AbnFastError
    from abn_fast.checkpoints import read_checkpoint
    from abn_fast.export import BatchRange, ProofFailedError, SizeRange
    from abn_fast.export.formats import FORMATS, PRECISIONS, ExportRequest, export_checkpoint
    from abn_fast.export.quantize import make_quantization
    from abn_fast.export.triton_server import server_backend, write_model_repository

    chosen = FORMATS[checked_choice("format", format_name, FORMATS)]
    checked_choice("precision", precision, PRECISIONS)
    batches, sizes = BatchRange.parse(batch), None if size is None else SizeRange.parse(size)
    loaded = read_checkpoint(checkpoint)
    if sizes is None:
        if loaded.preprocessing is None:
            raise AbnFastError(f"{checkpoint} does not state an image size: give --size")
        sizes = SizeRange.around(loaded.preprocessing.image_size)
    names = None if outputs is None else _names(outputs)
    chosen_targets = None if targets is None else _names(targets)
    quantization = make_quantization(calibration, quantize_for, _names(keep_float or ""), format_name)
    request = ExportRequest(sizes, batches, precision, names, gate, images, quantization, chosen_targets, plugin)
    path = out or Path(checkpoint).with_suffix(chosen.suffix)
    if server is not None:
        server_backend(path)  # before any work is lost
    try:
        proof = export_checkpoint(loaded, path, format_name, request)
    except ProofFailedError as error:
        click.echo(error.proof.table())
        raise
    click.echo(proof.table())
    if server is not None:
        click.echo(f"model repository: {write_model_repository(path, server)}")


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",")) if text else ()

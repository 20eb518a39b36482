from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast.export.checksum import sha256
from abn_fast.export.tensorrt.flavour import FLAVOURS, Flavour
from abn_fast.export.tensorrt.header import LENGTH, EngineHeader
from abn_fast.export.tensorrt.sidecar import Sidecar


def read_engine(path: Path) -> tuple[Sidecar, Flavour]:
    """What an engine is, after all checks of the file itself: an engine is code, and none is loaded that fails one.

    Raises:
        AbnFastError: no sidecar, another flavour's, truncated, or changed since it was built.
    """
    sidecar = Sidecar.read(path)
    flavour = FLAVOURS.get(sidecar.flavour)
    if flavour is None or path.suffix != flavour.suffix:
        raise AbnFastError(f"{path}: its sidecar says that {sidecar.flavour} built it, which writes no {path.suffix}")
    if flavour.header:
        check_header(path, sidecar)
    if sha256(path) != sidecar.engine_sha256:
        raise AbnFastError(f"{path} is not the engine that its sidecar describes: it changed, or is another's")
    return sidecar, flavour


def check_header(path: Path, sidecar: Sidecar) -> EngineHeader:
    """An engine's header, which agrees with the file and with the sidecar.

    Raises:
        AbnFastError: it does not.
    """
    with path.open("rb") as file:
        start = file.read(LENGTH)
    try:
        header = EngineHeader.read(start)
    except AbnFastError as error:
        raise AbnFastError(f"{path}: {error}") from None
    size = path.stat().st_size
    if header.size != size:
        raise AbnFastError(f"{path} is truncated or damaged: {size} bytes of {header.size}")
    if header.version != sidecar.version or header.targets != sidecar.targets:
        raise AbnFastError(
            f"{path} is of {header.version} for {', '.join(header.targets)}, but its sidecar says {sidecar.version} "
            f"for {', '.join(sidecar.targets)}"
        )
    return header


def check_version(path: Path, sidecar: Sidecar, flavour: Flavour, installed: str) -> None:
    """Refuse an engine of another version than the one installed."""
    if sidecar.version != installed:
        raise AbnFastError(
            f"{path} was built by {flavour.title} {sidecar.version}, and {installed} is installed: export it again, "
            f"or install {sidecar.version}"
        )


def check_card(path: Path, sidecar: Sidecar, flavour: Flavour, target: str) -> None:
    """Refuse an engine for other cards than `target`, the one at hand."""
    if target not in sidecar.targets:
        option = f" --targets {target}" if flavour.targets else " on this machine"
        raise AbnFastError(
            f"{path} was built for {', '.join(sidecar.targets)}, and this card is {target}: "
            f"export it with --format {flavour.name}{option}"
        )

import json
from collections.abc import Callable
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast.export.proof import Proof

REJECTED = ".rejected"


def write_if_proved(path: Path, write: Callable[[Path], Proof], companion: str | None = None) -> Proof:
    """Let `write` fill a temporary file and prove it; the file and its proof appear only if the proof passed.

    A file that failed is kept as NAME.rejected with its proof beside it; what stood at `path` before stays.

    Args:
        path: of the file.
        write: takes the temporary path.
        companion: suffix of a second file that `write` fills beside the first. It is put in place just before the
            first, which has to know its own companion from others.

    Raises:
        ProofFailedError: the proof failed.
        AbnFastError: the file cannot be written.
    """
    rejected = path.with_name(path.name + REJECTED)
    proofs: list[Proof] = []

    def fill(temporary: Path) -> None:
        second = None if companion is None else temporary.with_suffix(companion)
        try:
            proof = write(temporary)
            if not proof.passed:
                temporary.replace(rejected)
                if second is not None:
                    second.replace(path.with_suffix(second.suffix + REJECTED))
                write_proof(proof, rejected)
                proof.check()
            if second is not None:
                _move(second, path.with_suffix(second.suffix))
            proofs.append(proof)
        finally:
            if second is not None:
                second.unlink(missing_ok=True)

    try:
        write_atomically(path, fill)
        write_proof(proofs[0], path)
    except OSError as error:
        raise AbnFastError(f"{path} cannot be written: {error.strerror or error}; what was there is kept") from error
    stale = [rejected, proof_path(rejected)]
    if companion is not None:
        stale.append(path.with_suffix(companion + REJECTED))
    for each in stale:
        each.unlink(missing_ok=True)
    return proofs[0]


def _move(source: Path, target: Path) -> None:
    def write(temporary: Path) -> None:
        source.replace(temporary)

    write_atomically(target, write)


def proof_path(path: Path) -> Path:
    """Where the proof of a file stands."""
    return path.with_name(f"{path.name}.proof.json")


def write_proof(proof: Proof, path: Path) -> None:
    """Write a file's proof beside it."""
    text = json.dumps(proof.to_dict(), indent=1) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    write_atomically(proof_path(path), write)

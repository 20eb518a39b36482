import json
from collections.abc import Callable
from pathlib import Path

from abn_fast._errors import AbnFastError
from abn_fast._files import write_atomically
from abn_fast.export.proof import Proof

REJECTED = ".rejected"


def write_if_proved(path: Path, write: Callable[[Path], Proof]) -> Proof:
    """Let `write` fill a temporary file and prove it; the file and its proof appear only if the proof passed.

    A file that failed is kept as NAME.rejected with its proof beside it; what stood at `path` before stays.

    Raises:
        ProofFailedError: the proof failed.
        AbnFastError: the file cannot be written.
    """
    rejected = path.with_name(path.name + REJECTED)
    proofs: list[Proof] = []

    def fill(temporary: Path) -> None:
        proof = write(temporary)
        if not proof.passed:
            temporary.replace(rejected)
            write_proof(proof, rejected)
            proof.check()
        proofs.append(proof)

    try:
        write_atomically(path, fill)
        write_proof(proofs[0], path)
    except OSError as error:
        raise AbnFastError(f"{path} cannot be written: {error.strerror or error}; what was there is kept") from error
    for stale in (rejected, proof_path(rejected)):
        stale.unlink(missing_ok=True)
    return proofs[0]


def proof_path(path: Path) -> Path:
    """Where the proof of a file stands."""
    return path.with_name(f"{path.name}.proof.json")


def write_proof(proof: Proof, path: Path) -> None:
    """Write a file's proof beside it."""
    text = json.dumps(proof.to_dict(), indent=1) + "\n"

    def write(temporary: Path) -> None:
        temporary.write_text(text)

    write_atomically(proof_path(path), write)

from torch import Tensor

from abn_fast._errors import AbnFastError
from abn_fast.kernels._checks import check_images, check_same_kind, check_vector


def check_evidence(z: Tensor, vectors: dict[str, Tensor], map_weight: Tensor | None) -> None:
    """Refuse what does not fit class scores z [N, K, H, W]."""
    check_images("z", z)
    classes = z.shape[1]
    for name, vector in vectors.items():
        check_vector(name, vector, classes, "class of z")
    if map_weight is not None and (map_weight.ndim != 4 or tuple(map_weight.shape) != (1, classes, 3, 3)):
        raise AbnFastError(
            f"map_weight has shape {tuple(map_weight.shape)}; expected (1, {classes}, 3, 3) "
            f"for z of shape {tuple(z.shape)}"
        )
    check_same_kind({"z": z, **vectors} if map_weight is None else {"z": z, **vectors, "map_weight": map_weight})


def check_has_statistics(z: Tensor) -> None:
    """Refuse a batch without statistics."""
    if z.shape[0] == 0 or (z.shape[0] == 1 and z.shape[2] == 1 and z.shape[3] == 1):
        raise AbnFastError(
            f"z has shape {tuple(z.shape)}; expected more than 1 value for each class, "
            "to have batch statistics: class_evidence_affine takes given ones"
        )

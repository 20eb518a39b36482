import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from abn_fast._errors import AbnFastError

# a run's accuracies may have been saved as NumPy numbers
_NUMPY_SCALARS: list[Any] = [
    np.dtype,
    np.dtypes.Float32DType,
    np.dtypes.Float64DType,
    *((np.float64().__reduce__()[0], f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
]


def read_pickle(path: Path) -> dict[str, Any]:
    """The dictionary in a file of `torch.save`, read without running any code of it.

    Raises:
        AbnFastError: reading would run code, or the file is truncated, damaged, or holds no dictionary.
    """
    try:
        with torch.serialization.safe_globals(_NUMPY_SCALARS):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
            raise AbnFastError("the file is truncated, damaged or no checkpoint") from None
        raise AbnFastError(
            "refused: reading it would run code that it names; save a state dict of tensors instead of whole objects"
        ) from None
    except Exception as error:  # damaged bytes may raise anything
        raise AbnFastError(f"the file is truncated, damaged or no checkpoint ({type(error).__name__})") from None
    if not isinstance(content, Mapping):
        raise AbnFastError(f"it holds a {type(content).__name__}; expected a dictionary with a state dict")
    return dict(content)

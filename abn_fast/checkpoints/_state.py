from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from abn_fast._errors import AbnFastError, one_line
from abn_fast.models import Network, create_model
from abn_fast.modules import ModelConfig

_SHOWN = 3


def build_from_state(
    config: ModelConfig, state: Mapping[str, Tensor], stored_key: Callable[[str], str] = lambda key: key
) -> Network:
    """The model of `config` with copies of the tensors in `state`.

    Args:
        config: what to build.
        state: tensors by stored key. Missing `num_batches_tracked`, which old files lack, count as 0.
        stored_key: the stored key of one of the model's keys.

    Raises:
        AbnFastError: keys or shapes differ from the model's.
    """
    try:
        with torch.device("meta"):
            network = create_model(config.name, **config.arguments)
    except (RuntimeError, TypeError, OverflowError) as error:  # torch's, of sizes beyond its own limits
        raise AbnFastError(f"{config.name} cannot be built as the file says: {one_line(error, 200)}") from None
    expected = network.state_dict()
    loaded = {}
    missing, misshapen = [], []
    for key, meta in expected.items():
        stored = stored_key(key)
        if stored not in state and key.endswith("num_batches_tracked"):
            loaded[key] = torch.zeros((), dtype=torch.int64)
        elif stored not in state:
            missing.append(stored)
        elif state[stored].shape != meta.shape:
            misshapen.append(f"{stored} {tuple(state[stored].shape)} instead of {tuple(meta.shape)}")
        else:
            loaded[key] = state[stored].detach().clone()
    unexpected = sorted(set(state) - {stored_key(key) for key in expected})
    for problem, names in (("missing", missing), ("unexpected", unexpected), ("wrong shapes", misshapen)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise AbnFastError(
                f"the weights are not those of {config.name}: {problem}: {', '.join(names[:_SHOWN])}{more}"
            )
    network.load_state_dict(loaded, assign=True)
    return network

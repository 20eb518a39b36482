import importlib
from types import ModuleType

from abn_fast._errors import AbnFastError


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional module, or say which pip extra brings it.

    Raises:
        AbnFastError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != module.partition(".")[0]:
            raise
        raise AbnFastError(
            f"{purpose} needs {error.name!r}, which is not installed: pip install 'abn-fast[{extra}]'"
        ) from None

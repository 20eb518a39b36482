"""A file of abn_fast's behind HTTP; needs the extra `serve`."""

from abn_fast._optional import require
from abn_fast.export.server.settings import ServerSettings

__all__ = ["ServerSettings", "require_serve"]


def require_serve() -> None:
    """Refuse to go on without the packages of the extra.

    Raises:
        AbnFastError: one of them is missing.
    """
    for module in ("fastapi", "uvicorn", "python_multipart", "prometheus_client"):
        require(module, extra="serve", purpose="abn-fast serve")

import asyncio

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from abn_fast.export.server.refusal import Refusal

DRAINED = 4
"""Times the limit that is read and thrown away, so that a client hears the answer."""


async def read_body(request: Request, max_bytes: int, seconds: float) -> bytes:
    """The image file in a request: the raw body, or of a multipart form the field `image`.

    Raises:
        Refusal: 413 for more than `max_bytes`, 408 for a client that takes longer, 400 for a form without the field.
        ClientDisconnect: the client has gone.
    """
    try:
        return await asyncio.wait_for(_read(request, max_bytes), seconds)
    except asyncio.TimeoutError:  # Python 3.10's is another than TimeoutError
        raise Refusal(408, f"the body did not arrive within {seconds:g} s", {"Connection": "close"}) from None


async def _read(request: Request, max_bytes: int) -> bytes:
    limited = Request(request.scope, _limited(request.receive, max_bytes))
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        return await limited.body()
    try:
        async with limited.form(max_files=1, max_fields=8) as form:
            file = form.get("image")
            if file is None:
                raise Refusal(400, "the form has no field 'image'")
            return file.encode() if isinstance(file, str) else await file.read()
    except HTTPException as error:
        raise Refusal(400, f"the form cannot be read: {error.detail}") from None


def _limited(receive: Receive, max_bytes: int) -> Receive:
    """`receive` that counts the body's bytes."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken <= max_bytes:
            return message
        while message.get("more_body") and taken <= DRAINED * max_bytes:
            message = await receive()
            taken += len(message.get("body", b""))
        raise Refusal(413, f"the body has more than {max_bytes} bytes", {"Connection": "close"})

    return limited

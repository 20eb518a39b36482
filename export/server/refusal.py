class Refusal(Exception):  # noqa: N818  # an answer, not a failure
    """A request's answer with an HTTP status of 400 or more and one sentence."""

    def __init__(self, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = headers

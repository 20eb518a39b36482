class AbnFastError(ValueError):
    """Bad input, told in one line: the value, what was expected, and the fix."""


def one_line(message: object, longest: int = 1000) -> str:
    """A message that may quote what a file says, without line breaks and cut after `longest` characters."""
    text = " ".join(str(message).split())
    return text if len(text) <= longest else f"{text[:longest]} ..."

class AbnFastError(ValueError):
    """Bad input, told in one line: the value, what was expected, and the fix."""

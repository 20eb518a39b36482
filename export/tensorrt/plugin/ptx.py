"""The parameters of a kernel in PTX, the text in which TensorRT and the driver take it."""

import re

from abn_fast._errors import AbnFastError

_ENTRY = re.compile(r"\.entry\s+(?P<name>[\w$]+)\s*\((?P<parameters>[^)]*)\)")
_PARAMETER = re.compile(r"\.param\s+(?P<type>\.\w+)(?:\s+\.\w+(?:\s+\d+)?)*?\s+(?P<name>[\w$]+)$")


def entry(ptx: str) -> tuple[str, list[tuple[str, str]]]:
    """The name of the one kernel in it, and type and name of each of its parameters: (".u64", "gate_param_0").

    Raises:
        AbnFastError: no kernel, several, or parameters that are not numbers and pointers.
    """
    found = list(_ENTRY.finditer(ptx))
    if len(found) != 1:
        raise AbnFastError(f"the PTX has {len(found)} kernels instead of 1")
    parameters = []
    for text in filter(None, (each.strip() for each in found[0]["parameters"].split(","))):
        match = _PARAMETER.fullmatch(text)
        if match is None:
            raise AbnFastError(f"the PTX has a parameter of unknown kind: {text!r}")
        parameters.append((match["type"], match["name"]))
    return found[0]["name"], parameters


def with_parameters(ptx: str, count: int) -> str:
    """The same kernel without the parameters after the first `count`, which it must not use.

    Triton appends pointers to scratch memory to every kernel; whoever passes what was declared passes none.

    Raises:
        AbnFastError: fewer parameters, or one of the others is used.
    """
    _, parameters = entry(ptx)
    if len(parameters) < count:
        raise AbnFastError(f"the PTX has {len(parameters)} parameters instead of {count}")
    match = _ENTRY.search(ptx)
    assert match is not None
    body = ptx[match.end() :]
    for _, name in parameters[count:]:
        if re.search(rf"{re.escape(name)}\b", body):
            raise AbnFastError(f"the kernel uses its hidden parameter {name}")
    kept = match["parameters"].split(",")[:count]
    start, end = match.span("parameters")
    return ptx[:start] + ",".join(kept).rstrip() + "\n" + ptx[end:]

"""The Range header of a download, for modems that go on where they were cut off (RFC 9110 §14). Pure."""

import re

_ONE = re.compile(r"bytes\s*=\s*(\d{0,15})\s*-\s*(\d{0,15})\s*", re.IGNORECASE | re.ASCII)


class Unsatisfiable(ValueError):
    """There is no such part of the file: 416."""


def read(header: str, size: int) -> tuple[int, int] | None:
    """(first, last) byte asked for, both included; None: the whole file, which is also the answer to what we do not understand.

    Raises Unsatisfiable when the range begins behind the end.
    """
    match = _ONE.fullmatch(header.strip())
    if match is None or match[1] == match[2] == "":
        return None
    if match[1] == "":
        length = int(match[2])
        if length == 0 or size == 0:
            raise Unsatisfiable
        return max(0, size - length), size - 1
    first, last = int(match[1]), int(match[2]) if match[2] else size - 1
    if match[2] and last < first:
        return None
    if first >= size:
        raise Unsatisfiable
    return first, min(last, size - 1)

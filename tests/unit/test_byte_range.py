"""Which part of a file a Range header asks for."""

import pytest

from csms.rules.byte_range import Unsatisfiable, read


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-99", (0, 99)),
        ("bytes=0-0", (0, 0)),
        ("bytes=500-", (500, 999)),
        ("bytes=999-", (999, 999)),
        ("bytes=990-5000", (990, 999)),
        ("bytes=-100", (900, 999)),
        ("bytes=-5000", (0, 999)),
        ("Bytes = 1 - 2", (1, 2)),
        ("", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-4", None),
        ("bytes=0-1,5-6", None),
        ("bytes=a-b", None),
        ("items=0-1", None),
        ("bytes=0x1-2", None),
        ("bytes=+1-2", None),
        ("bytes=" + "9" * 40 + "-", None),
    ],
)
def test_what_is_asked_for(header, part):
    assert read(header, 1000) == part


@pytest.mark.parametrize(("header", "size"), [("bytes=1000-", 1000), ("bytes=2000-3000", 1000), ("bytes=-0", 1000), ("bytes=-5", 0)])
def test_what_there_is_not(header, size):
    with pytest.raises(Unsatisfiable):
        read(header, size)

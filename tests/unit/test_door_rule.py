"""How a charger writes its name, and what is spoken with it: pure."""

import pytest

from csms.rules.door import identity, spoken


@pytest.mark.parametrize(
    "path",
    [
        "/ocpp/VLT-0001",
        "/ocpp/VLT-0001/",
        "/ocpp//VLT-0001//",
        "///ocpp/ VLT-0001 ",
        "/ocpp/VLT-0001;v=1",
        "/ocpp/ws/VLT-0001",
        "/ocpp/ws://10.0.0.1:9000/ocpp/VLT-0001",
        "VLT-0001",
    ],
)
def test_the_identity_is_the_last_part_that_is_not_empty(path):
    assert identity(path) == "VLT-0001"


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/ocpp",
        "/ocpp/",
        "/ocpp// ",
        "/ocpp/" + "V" * 49,
        "/ocpp/A\x00",
        "/ocpp/A B",
        "/ocpp/A\nB",
        "/ocpp/В1",
        "/ocpp/A:B",
        "/ocpp/;",
    ],
)
def test_what_is_no_identity(path):
    assert identity(path) == ""


def test_48_characters_are_an_identity():
    assert identity("/ocpp/" + "V" * 48) == "V" * 48


@pytest.mark.parametrize(
    ("offered", "without", "answer"),
    [
        (["ocpp1.6"], False, ("ocpp1.6", "ocpp1.6")),
        (["ocpp2.0.1", "ocpp1.6"], False, ("ocpp1.6", "ocpp1.6")),
        ([" OCPP1.6 "], False, ("ocpp1.6", "OCPP1.6")),
        (["ocpp1.5"], False, None),
        (["ocpp1.5"], True, None),
        ([], False, None),
        ([], True, ("ocpp1.6", None)),
        ([""], True, ("ocpp1.6", None)),
    ],
)
def test_one_of_ours_is_spoken_or_none(offered, without, answer):
    assert spoken(offered, ("ocpp1.6",), without=without) == answer


def test_our_order_counts_not_the_chargers():
    assert spoken(["ocpp2.0.1", "ocpp1.6"], ("ocpp1.6", "ocpp2.0.1"), without=False) == ("ocpp1.6", "ocpp1.6")
    assert spoken(["ocpp1.6", "ocpp2.0.1"], ("ocpp2.0.1", "ocpp1.6"), without=False) == ("ocpp2.0.1", "ocpp2.0.1")

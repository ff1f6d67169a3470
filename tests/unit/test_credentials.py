"""Chargers' keys: sent as hex or as bytes or as text, bound to one charger, and odd headers are no trouble."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from csms import credentials, entrance, stations
from csms.credentials import derived_key, hashed, matches, new_key, new_nonce, read_basic, which
from csms.rules.security import Key, Verdict

KEY = "0f8a" * 10


def basic(user: str | bytes, password: str | bytes) -> bytes:
    user, password = (part.encode() if isinstance(part, str) else part for part in (user, password))
    return b"Basic " + base64.b64encode(user + b":" + password)


def test_a_new_key_has_160_bits_in_40_hex_digits():
    assert len({new_key() for _ in range(50)}) == 50
    assert all(len(bytes.fromhex(new_key())) == 20 for _ in range(5))


@pytest.mark.parametrize("sent", [KEY.encode(), KEY.upper().encode(), bytes.fromhex(KEY)], ids=["hex", "upper", "bytes"])
def test_a_hex_key_is_known_as_digits_and_as_bytes(sent):
    assert matches("VLT-0001", hashed("VLT-0001", KEY), sent)
    assert matches("VLT-0001", hashed("VLT-0001", KEY.upper()), sent)


@pytest.mark.parametrize("key", ["sixteen letters!", "twenty letters, yes.", "with:colon and Ünïcode"])
def test_a_key_that_is_text_is_known_as_text_and_its_case_counts(key):
    stored = hashed("VLT-0001", key)
    assert matches("VLT-0001", stored, key.encode())
    assert not matches("VLT-0001", stored, key.upper().encode())


@pytest.mark.parametrize(
    "sent", [b"", b"0f8a", KEY[:-1].encode(), (KEY + "0").encode(), bytes.fromhex(KEY)[:-1], b"\xff" * 20, b"\x00" * 40]
)
def test_anything_else_is_not_the_key(sent):
    assert not matches("VLT-0001", hashed("VLT-0001", KEY), sent)


def test_A07_the_key_of_one_charger_opens_no_other():
    assert hashed("VLT-0001", KEY) != hashed("VLT-0002", KEY)
    assert not matches("VLT-0002", hashed("VLT-0001", KEY), KEY.encode())


def test_a_charger_without_a_stored_key_is_opened_by_none():
    assert not matches("VLT-0001", "", b"")
    assert not matches("VLT-0001", "", hashed("VLT-0001", "").encode())


def test_what_is_stored_says_nothing_of_the_key_and_needs_the_pepper(settings):
    before = hashed("VLT-0001", KEY)
    assert KEY not in before and len(before) == 64
    settings.CHARGER_KEY_PEPPER = "another installation's"
    assert hashed("VLT-0001", KEY) != before


# -- the header ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("header", "read"),
    [
        (basic("VLT-0001", KEY), ("VLT-0001", KEY.encode())),
        (basic("VLT-0001", bytes.fromhex(KEY)), ("VLT-0001", bytes.fromhex(KEY))),
        (basic("VLT-0001", "a:b:c"), ("VLT-0001", b"a:b:c")),
        (basic("", ""), ("", b"")),
        (basic("Kühl", "x"), ("Kühl", b"x")),
        (basic(b"K\xfchl", "x"), ("K\ufffdhl", b"x")),
        (b"basic  " + base64.b64encode(b"u:p") + b"  ", ("u", b"p")),
        (b"BASIC " + base64.b64encode(b"u:p"), ("u", b"p")),
        (None, None),
        (b"", None),
        (b"Basic", None),
        (b"Basic ", None),
        (b"Basic !!!!", None),
        (b"Basic dTpw\xff", None),
        ("Basic üüü".encode(), None),
        ("Bäsic dTpw".encode("latin-1"), None),
        (b"Basic dTp", None),
        (b"Basic " + base64.b64encode(b"no colon"), None),
        (b"Bearer dTpw", None),
        (b"Digest username=u", None),
    ],
)
def test_a_header_is_read_or_is_none(header, read):
    assert read_basic(header) == read


@given(st.binary(max_size=80))
def test_any_header_is_read(header):
    for raw in (header, b"Basic " + header, b"Basic " + base64.b64encode(header)):
        found = read_basic(raw)
        assert found is None or not matches("VLT-0001", hashed("VLT-0001", KEY), found[1])


# -- the door --------------------------------------------------------------------------------------------------------
def known(**fields) -> stations.Known:
    given = {
        "pk": 1,
        "cp_id": "VLT-0001",
        "blocked": False,
        "registration": "Accepted",
        "security_profile": 1,
        "pending_security_profile": None,
        "keys": (hashed("VLT-0001", KEY), ""),
        "certificate_name": "",
        "serial_number": "",
        "vendor": "",
        "model": "",
        "firmware_version": "",
        "quirk_profile_pk": None,
        "quirk_settings": {},
        "unclaimed": False,
        "booted": False,
        "places": {},
    }
    return stations.Known(**{**given, **fields})


def refusal(charger: stations.Known, user: str | None, password: str | bytes = b"") -> str:
    return entrance.look(charger, None if user is None else basic(user, password), None).refusal


def test_A06_the_user_name_is_the_identity_in_any_case():
    assert refusal(known(), "VLT-0001", KEY) == ""
    assert refusal(known(), "vlt-0001", KEY) == ""
    for user in ("VLT-0002", "", None):
        assert refusal(known(), user, KEY) == "wrong_key"


def test_while_a_key_is_changed_both_are_known_and_the_new_one_is_told_of():
    new = "1" * 40
    changing = known(keys=(hashed("VLT-0001", KEY), hashed("VLT-0001", new)))
    assert entrance.look(changing, basic("VLT-0001", KEY), None).verdict == Verdict(profile=1)
    assert entrance.look(changing, basic("VLT-0001", bytes.fromhex(new)), None).verdict == Verdict(profile=1, new_key=True)
    assert entrance.look(changing, basic("VLT-0002", new), None).refusal == "wrong_key"


def test_a_blocked_or_rejected_charger_stays_out_with_any_key():
    for fields, why in (
        ({"blocked": True}, "blocked"),
        ({"registration": "Rejected"}, "rejected"),
        ({"blocked": True, "security_profile": 0}, "blocked"),
    ):
        assert refusal(known(**fields), "VLT-0001", KEY) == why


def test_a_charger_without_authentication_needs_none_and_one_whose_key_was_taken_has_none():
    assert refusal(known(security_profile=0, keys=("", "")), None) == ""
    assert refusal(known(security_profile=0), "VLT-0001", "") == ""  # Q15: an empty password, where none is asked for
    assert refusal(known(keys=("", "")), "VLT-0001", "") == "wrong_key"


def test_A02_A03_the_work_is_the_same_whatever_is_stored(monkeypatch):
    """A stranger, a wrong key, the right one, one of two: as many hashes, and the identity's length is all that differs."""
    new = "1" * 40
    stored = {
        "stranger": ("", ""),
        "wrong": (hashed("VLT-0001", "2" * 40), ""),
        "right": (hashed("VLT-0001", KEY), ""),
        "changing": (hashed("VLT-0001", new), hashed("VLT-0001", KEY)),
    }
    done = []
    real = credentials.hashed
    monkeypatch.setattr(credentials, "hashed", lambda *what: done.append(what) or real(*what))
    counts = set()
    for keys in stored.values():
        done.clear()
        refusal(known(keys=keys), "VLT-0001", KEY)
        counts.add(len(done))
    assert counts == {1}


# -- keys that we send -----------------------------------------------------------------------------------------------
def test_a_key_that_is_sent_is_made_anew_from_its_nonce_and_the_pepper(settings):
    nonce = new_nonce()
    key = derived_key("VLT-0001", nonce)
    assert len(bytes.fromhex(key)) == 20 and key == derived_key("VLT-0001", nonce)
    assert key not in (derived_key("VLT-0002", nonce), derived_key("VLT-0001", new_nonce()))
    assert nonce not in key and key not in nonce
    assert which("VLT-0001", ("", hashed("VLT-0001", key)), bytes.fromhex(key)) is Key.PENDING
    settings.CHARGER_KEY_PEPPER = "another installation's"
    assert derived_key("VLT-0001", nonce) != key

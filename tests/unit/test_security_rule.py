"""Security profiles as a table: what is asked, what is shown, what becomes of it."""

import pytest

from csms.rules.security import Certificate, Door, Key, Shown, Verdict, judge, may_raise, read_profile, wrong_certificate

OURS = Certificate("VLT-0001", "Voltaro")
NAMES = ("VLT-0001", "SN-77")
NOTHING = Shown()
KEY, TLS_KEY = Shown(Key.CURRENT), Shown(Key.CURRENT, tls=True)
NEW, TLS_NEW = Shown(Key.PENDING), Shown(Key.PENDING, tls=True)
TLS_ONLY = Shown(tls=True)
CERTIFIED = Shown(tls=True, certificate=OURS)
OVER_PLAIN = Shown(Key.CURRENT, tls=False, certificate=OURS)  # no proxy says such a thing: the certificate counts for nothing


def door(profile, pending=None):
    return Door(profile, pending, NAMES, "Voltaro")


@pytest.mark.parametrize(
    ("profile", "shown", "refusal", "best"),
    [
        (0, NOTHING, "", 0),
        (0, KEY, "", 1),  # credentials nobody asked for are no reason (Q16)
        (0, TLS_KEY, "", 2),
        (1, NOTHING, "wrong_key", 0),
        (1, TLS_ONLY, "wrong_key", 0),
        (1, KEY, "", 1),
        (1, NEW, "", 1),
        (1, TLS_KEY, "", 2),  # more than is asked is never refused
        (1, CERTIFIED, "", 3),
        (2, NOTHING, "not_tls", 0),
        (2, KEY, "not_tls", 0),  # C17, A09
        (2, TLS_ONLY, "wrong_key", 0),
        (2, TLS_KEY, "", 2),
        (2, CERTIFIED, "", 3),
        (2, Shown(tls=True, certificate=Certificate("VLT-0002", "Voltaro")), "wrong_key", 0),
        (2, Shown(Key.CURRENT, tls=True, certificate=OURS), "", 3),
        (3, NOTHING, "not_tls", 0),
        (3, KEY, "not_tls", 0),
        (3, OVER_PLAIN, "not_tls", 0),
        (3, TLS_KEY, "no_certificate", 0),
        (3, CERTIFIED, "", 3),
        (3, Shown(tls=True, certificate=Certificate("VLT-0002", "Voltaro")), "certificate_name", 0),
        (3, Shown(tls=True, certificate=Certificate("VLT-0001", "Others Ltd")), "certificate_organisation", 0),
        (3, Shown(tls=True, certificate=Certificate("VLT-0001", "Voltaro", "certificate_revoked")), "certificate_revoked", 0),
        # a certificate that opens nothing does not close what the key opens
        (2, Shown(Key.CURRENT, tls=True, certificate=Certificate("VLT-0002", "Voltaro")), "", 2),
    ],
)
def test_what_each_profile_asks_for(profile, shown, refusal, best):
    assert judge(door(profile), shown) == Verdict(refusal, best, False, new_key=not refusal and shown.key is Key.PENDING)


@pytest.mark.parametrize(
    ("profile", "pending", "shown", "verdict"),
    [
        # X11: until the higher one was used once, the old one is served
        (1, 2, KEY, Verdict("", 1)),
        (1, 2, TLS_KEY, Verdict("", 2, raised=True)),
        (1, 2, CERTIFIED, Verdict("", 3, raised=True)),
        (1, 3, TLS_KEY, Verdict("", 2)),
        (1, 3, CERTIFIED, Verdict("", 3, raised=True)),
        (2, 3, TLS_KEY, Verdict("", 2)),
        (2, 3, CERTIFIED, Verdict("", 3, raised=True)),
        (2, 3, KEY, Verdict("not_tls")),
        (0, 1, NOTHING, Verdict("", 0)),
        (0, 1, KEY, Verdict("", 1, raised=True)),
        (0, 2, TLS_NEW, Verdict("", 2, raised=True, new_key=True)),
        (1, 2, NOTHING, Verdict("wrong_key")),
        (3, 1, KEY, Verdict("not_tls")),  # a lower one that stands in a row for whatever reason counts for nothing
        (3, 3, CERTIFIED, Verdict("", 3)),
    ],
)
def test_while_a_higher_profile_is_pending_both_are_served(profile, pending, shown, verdict):
    assert judge(door(profile, pending), shown) == verdict


def test_the_new_key_opens_and_is_told_of():
    assert judge(door(1), NEW) == Verdict("", 1, new_key=True)
    assert judge(door(0), NEW) == Verdict("", 1, new_key=True)


@pytest.mark.parametrize(
    ("certificate", "trouble"),
    [
        (Certificate("vlt-0001", "VOLTARO"), ""),
        (Certificate("sn-77", "Voltaro"), ""),
        (Certificate("", "Voltaro"), "certificate_name"),
        (Certificate("VLT-0001", ""), "certificate_organisation"),
        (Certificate("VLT-0001", "Voltaro", "certificate_unreadable"), "certificate_unreadable"),
    ],
)
def test_whose_certificate_it_is(certificate, trouble):
    assert wrong_certificate(certificate, (*NAMES, ""), "Voltaro") == trouble


def test_without_an_operator_of_that_name_any_organisation_will_do():
    assert wrong_certificate(Certificate("VLT-0001", "Anybody"), NAMES, "") == ""


@pytest.mark.parametrize(
    ("profile", "target", "has_key", "has_certificate", "may"),
    [
        (0, 1, True, False, True),
        (0, 1, False, False, False),
        (1, 2, True, False, True),
        (1, 2, False, False, False),
        (1, 3, True, True, True),
        (2, 3, True, False, False),
        (2, 3, False, True, True),
        (2, 1, True, True, False),
        (3, 2, True, True, False),
        (1, 0, True, True, False),
        (2, 2, True, True, False),
        (1, 4, True, True, False),
    ],
)
def test_a_profile_is_raised_and_never_lowered(profile, target, has_key, has_certificate, may):
    assert (may_raise(profile, target, has_key=has_key, has_certificate=has_certificate) == "") is may


@pytest.mark.parametrize(
    ("value", "read"), [("2", 2), (" 3 ", 3), (1, 1), ("", None), ("-1", None), ("4", None), ("two", None), (None, None), (2.0, None)]
)
def test_a_profile_is_read_from_a_configuration_value(value, read):
    assert read_profile(value) == read

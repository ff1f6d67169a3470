"""Authorize of OCPP 1.6 (A)."""

import time
from datetime import timedelta

import pytest
from django.db import connection

from voltaro import clock

pytestmark = pytest.mark.e2e


def judged(charger, tag="CARD1"):
    return charger.call("Authorize", {"idTag": tag})["idTagInfo"]


def test_A01_a_tag_that_may(world, charger):
    """A valid tag is Accepted; with its group where it has one."""
    world.card("CARD1")
    assert judged(charger) == {"status": "Accepted"}
    world.card("CARD2", parent="FAMILY")
    assert judged(charger, "CARD2") == {"status": "Accepted", "parentIdTag": "FAMILY"}


def test_TC_023_1_A02_an_unknown_tag(charger):
    """An unknown tag is Invalid."""
    assert judged(charger, "NOBODY") == {"status": "Invalid"}


def test_TC_023_2_A03_an_expired_tag(world, charger):
    """An expired tag is Expired."""
    world.card("CARD1", expires_at=clock.now() - timedelta(days=1))
    assert judged(charger) == {"status": "Expired"}


def test_TC_023_3_A04_a_blocked_tag(world, charger):
    """A blocked tag is Blocked."""
    world.card("CARD1", state="blocked")
    assert judged(charger) == {"status": "Blocked"}


def test_A05_a_tag_that_charges_elsewhere(world, charger):
    """A tag with a running transaction elsewhere is ConcurrentTx, unless it may; a transaction gone silent does not count."""
    tag = world.card("CARD1")
    other = world.connect("VLT-0002")
    number = other.start(1, "CARD1", meter_wh=0)["transactionId"]
    other.meter(1, number, register_wh=100, power_w=30_000)
    assert judged(charger) == {"status": "ConcurrentTx"}
    tag.concurrent = True
    tag.save()
    world.pass_time(6)
    assert judged(charger) == {"status": "Accepted"}
    tag.concurrent = False
    tag.save()
    other.drop()
    world.until(lambda: world.session().state == "SUSPENDED")
    world.pass_time(6)
    assert judged(charger) == {"status": "Accepted"}


@pytest.mark.parametrize("shown", ["aBcD1234", "ab:cd:12:34", "AB-CD-12-34", "  AB CD 12 34", "abcd1234;120.00;INR"])
def test_A06_forms_of_a_tag(world, charger, shown):
    """Case and separators make no difference."""
    world.card("ABCD1234")
    assert judged(charger, shown)["status"] == "Accepted"


def test_A07_control_bytes_behind_a_full_tag(world, charger):
    """Twenty characters and the garbage behind them: the tag is matched."""
    world.card("12345678901234567890")
    charger.send('[2,"x","Authorize",{"idTag":"12345678901234567890\\u0010\\u000e"}]')
    assert charger.answer("x")["idTagInfo"]["status"] == "Accepted"


def test_A08_while_the_database_is_away(world, charger):
    """While the database cannot be asked, a tag is answered from memory within two seconds, not with an error."""
    world.card("CARD1")
    assert judged(charger)["status"] == "Accepted"
    world.pass_time(10)
    with connection.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE csms_idtag IN ACCESS EXCLUSIVE MODE")
        asked = time.monotonic()
        assert judged(charger)["status"] == "Accepted"
        assert time.monotonic() - asked < 5
        cursor.execute("COMMIT")
    world.server.forgive()


def test_A09_a_tag_whose_money_is_gone(world, charger):
    """A one-time tag whose payment was given back is no longer good, and the refusal is on record."""
    world.card("CAFE000011112222", kind="one_time", state="revoked", charge_point=world.network.kaveri_charger)
    assert judged(charger, "CAFE000011112222")["status"] == "Invalid"
    assert world.frames(world.network.kaveri_charger, "Authorize", "IN")


def test_TC_061_A10_the_cache_is_cleared(world, charger):
    """The operator clears the cache: Accepted and Rejected are shown."""
    for status, state in (("Accepted", "effective"), ("Rejected", "rejected")):
        row = world.ask("ClearCache")
        charger.expect("ClearCache", {"status": status})
        world.command("ClearCache", state)
        row.refresh_from_db()
        assert row.response == {"status": status}

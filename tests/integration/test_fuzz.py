"""10,000 generated and bent frames through the whole of dispatch and its database; then every list and page still opens."""

import io
import json
import os
import random
import re
from decimal import Decimal

import pytest
from django.urls import reverse

from csms import (
    batches,
    charging_profiles,
    commands,
    dispatch,
    doors,
    firmware,
    images,
    local_lists,
    message_writer,
    onboarding,
    reservations,
    sessions,
    uploads,
)
from csms.models import ChargePoint, ChargingSession, Command, Connector, IdTag, OcppMessage
from csms.rules.budget import Budget, Budgets
from csms.rules.profile import Step
from tests import fuzz
from tests.charger import Charger, later
from tests.crawl import crawl
from tests.factories import make_charge_point
from tests.stories import signed_in
from voltaro import clock

# By hand, more: FUZZ_DB_FRAMES=100000 bin/test tests/integration/test_fuzz.py
COUNT = int(os.environ.get("FUZZ_DB_FRAMES", "10000"))
CHARGERS = 4


@pytest.mark.django_db(transaction=True)
def test_B16_B21_whatever_chargers_send_they_are_answered_and_every_page_still_opens(network, bells, tmp_path, settings):
    """10,000 bent frames: each answer is total and under 2 KiB, our code never stumbles, every frame is in the log; and no row that was
    made of them keeps a list, a page, a form or an export of the console from opening, whoever looks."""
    settings.MEDIA_ROOT = tmp_path
    rows = [make_charge_point(f"FUZZ-{number}", network.kaveri.company, connectors=2) for number in range(CHARGERS)]
    chargers = [Charger(row) for row in rows]
    for charger in chargers:
        charger.boot()
        # What is said too often has a test of its own (tests/abuse/test_lines.py): here all of it goes the whole way.
        charger.context.budgets = Budgets(*(Budget(10 * COUNT, 0) for _ in range(3)))
    told = {"answers": 0, "errors": 0, "nothing": 0}
    for number, raw in enumerate(fuzz.frames(seed=7, count=COUNT)):
        charger = chargers[number % CHARGERS]
        reply = dispatch.answer(raw, charger.context)
        if reply is None:
            told["nothing"] += 1
            continue
        assert len(reply.text.encode()) < 2048, raw
        told["answers" if json.loads(reply.text)[0] == 3 else "errors"] += 1
        message_writer.sent([(charger.context, reply, clock.now())])
    assert min(told.values()) > COUNT // 100, told
    # A frame that could not be told apart from no frame at all still stands in the log.
    assert OcppMessage.objects.filter(direction="IN").count() >= COUNT
    assert ChargingSession.objects.filter(charge_point__in=rows).count() > 20
    _people_ask(network, chargers)
    stumbled = OcppMessage.objects.filter(note__startswith="kept for a person")
    assert not stumbled.exists(), [(one.text[:500], one.note) for one in stumbled[:3]]

    starts = ["/admin/", "/console/chargers/", *(reverse(f"csms:{page}", args=[row.pk]) for row in rows for page in ("charger", "history"))]
    starts += [reverse("console-session", args=[pk]) for pk in ChargingSession.objects.order_by("-pk").values_list("pk", flat=True)[:20]]
    starts += [reverse("csms:frame", args=[pk]) for pk in OcppMessage.objects.order_by("-pk").values_list("pk", flat=True)[:60]]
    seen = crawl(signed_in(network.admin), starts, of_a_kind=6)
    assert seen.bad() == {}
    assert len(seen.pages) > 300
    only_post(signed_in(network.admin), seen.missed("console/"))
    for person, start in ((network.om, "/console/chargers/"), (network.kaveri_user, "/portal/")):
        assert crawl(signed_in(person), [start], within=("/console/", "/portal/"), of_a_kind=3).bad() == {}


def only_post(client, missed: set[str]) -> None:
    """What no page leads to takes POST only, or is of a row that there is none of here (an upload that has arrived)."""
    for route in missed:
        path = "/" + re.sub(r"<\w+:\w+>", "1", route)
        assert client.get(path).status_code in (404, 405), f"no page leads to {route}"


def _people_ask(network, chargers: list[Charger]) -> None:
    """Everything a person can have asked of chargers that answer as oddly as they speak: a row of each kind for the pages."""
    dice = random.Random(7)
    for charger in chargers:
        ChargePoint.objects.filter(pk=charger.row.pk).update(registration="Accepted", blocked=False, quirk_settings={})
        charger.row.refresh_from_db()
    first, second, *_ = (charger.row for charger in chargers)
    for action in ("ClearCache", "GetConfiguration", "GetLocalListVersion", "GetInstalledCertificateIds", "Reset", "UnlockConnector"):
        payload = {"Reset": {"type": "Soft"}, "UnlockConnector": {"connectorId": 1}}.get(action, {})
        payload = {"certificateType": "CentralSystemRootCertificate"} if action == "GetInstalledCertificateIds" else payload
        commands.ask(first, action, payload, by="om", trigger="console")
    batches.ask([charger.row for charger in chargers], "ClearCache", {}, by="om", trigger="console", company=network.kaveri.company)
    for charger in chargers:
        charger.call("DataTransfer", {"vendorId": "VoltLync", "messageId": "SignalQuality", "data": '{"rssi": 20, "ber": 1}'})
    card = IdTag.objects.create(tag="<b>CARD</b>"[:20], company=network.voltaro)
    for session in ChargingSession.objects.filter(charge_point=second).exclude(state="STOPPED"):
        sessions.finalize(session.pk, "OPERATOR")
    place = second.connectors.get(connector_id=1)
    Connector.objects.filter(pk=place.pk).update(status="Available")
    reservations.reserve(second, place, card, later(1_800))
    uploads.ask(first, "diagnostics", by="om")
    image = images.add(io.BytesIO(b"firmware"), file_name="acme.bin", name="<i>Acme</i>", version="9.9")
    firmware.update(second, image, by="om")
    charging_profiles.want(second, purpose="ChargePointMaxProfile", connector_no=0, steps=(Step(0, Decimal("16")),), unit="A", by="om")
    local_lists.switch_on([first])
    onboarding.open_window(network.voltaro, network.om, minutes=30, now=clock.now())
    for number, text in enumerate(fuzz.TEXTS[:9]):
        knock = doors.Knock(f"NEW-{number}", f"203.0.113.{number}", f"/ocpp/NEW-{number}", None, ("ocpp1.6",))
        stranger = doors.admit(knock, "test", f"specific.{number}")
        assert isinstance(stranger, doors.Opened), stranger
        boot = {"chargePointVendor": text, "chargePointModel": text, "chargePointSerialNumber": text, "firmwareVersion": text}
        dispatch.answer(as_bytes([2, "b", "BootNotification", boot]), stranger.context)
    keys = [{"key": text, "readonly": text, "value": text} for text in fuzz.TEXTS]
    for charger in chargers:
        while (asked := charger.command()) is not None:
            word = dice.choice(fuzz.TEXTS)
            payload = dice.choice(({"status": word}, {"configurationKey": keys, "unknownKey": list(fuzz.TEXTS)}, {word: word}, {}, word, 5))
            charger.raw(as_bytes(dice.choice(([3, asked[0], payload], [4, asked[0], word, word, {}]))))
            clock.shift(1)
    assert Command.objects.exclude(answered_at=None).count() > 8


def as_bytes(frame: list) -> bytes:
    return json.dumps(frame).encode()

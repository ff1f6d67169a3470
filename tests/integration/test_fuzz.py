"""10,000 generated and bent frames through the whole of dispatch and its database; then every list and page still opens."""

import json
import os

import pytest
from django.contrib import admin
from django.urls import reverse

from csms import message_writer
from csms.models import ChargingSession, OcppMessage
from tests import fuzz
from tests.charger import Charger
from tests.factories import PASSWORD, make_charge_point
from voltaro import clock

# By hand, more: FUZZ_DB_FRAMES=100000 bin/test tests/integration/test_fuzz.py
COUNT = int(os.environ.get("FUZZ_DB_FRAMES", "10000"))
CHARGERS = 4


@pytest.mark.django_db(transaction=True)
def test_whatever_chargers_send_they_are_answered_and_every_page_still_opens(network, client, caplog):
    """B16, B21: the reply is total and short, our code never stumbles, and no row poisons a page."""
    rows = [make_charge_point(f"FUZZ-{number}", network.kaveri.company, connectors=2) for number in range(CHARGERS)]
    chargers = [Charger(row) for row in rows]
    for charger in chargers:
        charger.boot()
    told = {"answers": 0, "errors": 0, "nothing": 0}
    for number, raw in enumerate(fuzz.frames(seed=7, count=COUNT)):
        charger = chargers[number % CHARGERS]
        reply = _answer(charger, raw)
        if reply is None:
            told["nothing"] += 1
            continue
        assert len(reply.text.encode()) < 2048, raw
        told["answers" if json.loads(reply.text)[0] == 3 else "errors"] += 1
        message_writer.sent([(charger.context, reply, clock.now())])
    assert min(told.values()) > COUNT // 100, told
    stumbled = OcppMessage.objects.filter(note__startswith="kept for a person")
    assert not stumbled.exists(), [(one.text[:500], one.note) for one in stumbled[:3]]
    # All stand in the log, but for what one charger says too often: noise, heartbeats, statuses (csms/floods.py).
    assert OcppMessage.objects.filter(direction="IN").count() >= COUNT * 0.9
    assert ChargingSession.objects.filter(charge_point__in=rows).count() > 20
    client.login(username="admin", password=PASSWORD)
    for path in _pages(rows):
        answer = client.get(path)
        assert answer.status_code == 200, (path, answer.status_code)


def _answer(charger, raw):
    from csms import dispatch

    return dispatch.answer(raw, charger.context)


def _pages(rows):
    """Every list of the console with its newest rows, and the pages of these chargers."""
    for model in admin.site._registry:
        name = f"{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"admin:{name}_changelist")
        for pk in model._default_manager.order_by("-pk").values_list("pk", flat=True)[:5]:
            yield reverse(f"admin:{name}_change", args=[pk])
    yield reverse("admin:index")
    yield reverse("csms:chargers")
    for row in rows:
        yield reverse("csms:charger", args=[row.pk])
        yield reverse("csms:charger-live", args=[row.pk])
    for session in ChargingSession.objects.order_by("-pk")[:30]:
        yield reverse("console-session", args=[session.pk])
        yield reverse("csms:curve", args=[session.pk])
    for message in OcppMessage.objects.order_by("-pk")[:100]:
        yield reverse("csms:frame", args=[message.pk])

"""Stories for tests of pages: a charge that runs, one that was billed; a client of somebody; how many queries a page costs."""

import re
from datetime import timedelta
from types import SimpleNamespace

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from billing.models import Bill, BillLine, QRPayment, Refund
from billing.rules.tariff import price
from csms.models import ChargingSession, IdTag
from voltaro import clock


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def charge(network, *, connector=None, state="RUNNING", wh=8_000, amount=50_000, minutes_ago=20, number=1, **paid) -> SimpleNamespace:
    """Asha's kind of charge: a payment, its permit, its session."""
    connector = connector or network.kaveri_connector
    charger, company, now = connector.charge_point, connector.charge_point.company, clock.now()
    began = now - timedelta(minutes=minutes_ago)
    permit = IdTag.objects.create(
        tag=f"{number:016X}", kind="one_time", state="used", charge_point=charger, connector=connector, company=company, limit_wh=27_786
    )
    session = ChargingSession.objects.create(
        charge_point=charger,
        connector=connector,
        company=company,
        permit=permit,
        id_tag=permit.tag,
        transaction_id=str(number),
        start_key=f"key-{number}",
        state=state,
        start_time=began,
        started_at=began,
        ended_at=now if state == "STOPPED" else None,
        meter_start_wh=0,
        energy_wh=wh,
        limit_wh=27_786,
        last_power_w=41_250,
        soc_pct=63,
    )
    payment = QRPayment.objects.create(
        **{
            "razorpay_payment_id": f"pay_{number:014d}",
            "rrn": f"43210000{number:04d}",
            "qr": connector.qr_codes.get(),
            "connector": connector,
            "company": company,
            "vpa": "asha.secret@okbank",
            "amount_paid": amount,
            "tariff": network.tariff,
            "tariff_snapshot": network.tariff.snapshot(),
            "state": "charging" if state != "STOPPED" else "settled",
            "permit": permit,
            "session": session,
            "paid_at": began,
            "heard_at": began,
            **paid,
        }
    )
    return SimpleNamespace(session=session, payment=payment, permit=permit)


def billed(network, *, refund_state="processed", **how) -> SimpleNamespace:
    """A charge that has ended, with its bill and its refund."""
    story = charge(network, state="STOPPED", **how)
    cost = price(story.session.energy_wh, story.payment.tariff_snapshot)
    story.bill = Bill.objects.create(
        session=story.session,
        payment=story.payment,
        delivered_wh=story.session.energy_wh,
        billed_wh=story.session.energy_wh,
        energy_charge=cost.energy_charge,
        cgst=cost.cgst,
        sgst=cost.sgst,
        total=cost.total,
        refund_due=story.payment.amount_paid - cost.total,
    )
    BillLine.objects.create(bill=story.bill, position=1, kind="energy", description="Energy", amount_paise=cost.energy_charge)
    story.refund = Refund.objects.create(
        payment=story.payment,
        amount_paise=story.bill.refund_due,
        reason="surplus",
        key=f"key-{story.payment.pk}",
        body={},
        state=refund_state,
        razorpay_id=f"rfnd_{story.payment.pk}",
        asked_at=clock.now(),
        processed_at=clock.now() if refund_state == "processed" else None,
    )
    return story


def queries(client: Client, address: str) -> int:
    with CaptureQueriesContext(connection) as seen:
        assert client.get(address).status_code == 200
    return len(seen)


def as_read(client, address: str) -> dict[str, str]:
    """What a form that two people may edit at once carries of what it showed."""
    return {"read": re.search(r'<input type="hidden" name="read" value="(\w+)"', client.get(address).content.decode())[1]}

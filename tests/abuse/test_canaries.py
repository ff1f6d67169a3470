"""Looking for what must not be found: chargers' names where the public is, keys and UPI ids anywhere (A25, A26)."""

import csv
import io

import pytest
from django.db import connection
from django.test import Client

from accounts import tokens
from csms.models import ChargePoint
from csms.stations import add_charge_point
from tests import money
from tests.abuse.test_lines import _put_right  # noqa: F401 before and after every story
from tests.crawl import body, crawl
from tests.integration.conftest import kaveri_qr, sandbox  # noqa: F401 the same cast
from tests.server import basic, serving
from tests.simulate_client import ChargerClient
from tests.stories import signed_in

KEY = "c0ffee00c0ffee11c0ffee22c0ffee33c0ffee44"
WRONG_KEY = "badbad00badbad11badbad22badbad33badbad44"
VPA = "canary.asha.77@okaxis"
PHONE = "9812345670"


@pytest.mark.django_db
def test_A25_no_page_for_the_public_names_a_charger(sandbox, network, kaveri_qr):  # noqa: F811
    """The sticker, its QR, the page behind it, a rider's receipts, the look-up, the way in, errors and the API's documents: places and
    codes, which are random, never an identity or a serial number."""
    network.kaveri_charger.serial_number = "SERIAL-9X"
    network.kaveri_charger.save()
    payment = money.pay(sandbox, kaveri_qr, 50_000, vpa=VPA)
    money.plug_in(payment)
    code = network.kaveri_connector.code
    starts = [
        "/",
        f"/c/{code}/",
        f"/c/{code}/live/",
        f"/c/{code}/sticker/",
        f"/c/{code}/qr.svg",
        "/my-charges",
        "/sign-in/",
        "/api/schema/",
    ]
    starts += ["/api/docs/", "/healthz", "/c/NONE99/", "/ocpp/VLT-0001", "/nowhere"]
    nobody = crawl(Client(), starts, within=("/",), leave=("/static/", "/admin/", "/console/", "/portal/"))
    rider = crawl(signed_in(payment.user), ["/ride/", f"/c/{code}/"], within=("/",), leave=("/static/", "/sign-out"))
    found = Client().post("/my-charges", {"reference": payment.rrn, "amount": "500"})
    assert b"500" in found.content
    shown = [(path, whole) for seen in (nobody, rider) for path, (_, whole) in seen.pages.items()] + [("/my-charges", found.content)]
    assert len(shown) > 12 and any(code.encode() in whole for _, whole in shown)
    secrets = [*ChargePoint.objects.values_list("cp_id", flat=True), "SERIAL-9X", VPA]
    for path, whole in shown:
        for one in secrets:
            assert one.encode() not in whole or path == f"/ocpp/{one}", (path, one)
    codes = set(ChargePoint.objects.values_list("public_code", flat=True)) | {code, network.ganga_connector.code}
    assert len(codes) == 4 and not any(one in cp_id for one in codes for cp_id in secrets[:2])


@pytest.mark.e2e
@pytest.mark.django_db(transaction=True)
def test_A26_who_has_paid_and_what_opens_the_door_is_found_nowhere(sandbox, network, kaveri_qr, tmp_path):  # noqa: F811
    """Keys shown wrongly at the door (under another name, as a token, in the address), a rider's UPI id and phone, a program's token: in no
    line of the server's log, on no page of anybody, in no export, in no answer of the API; the UPI id stands in the payer's rows alone."""
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    with serving(tmp_path, alone=False, LOG_LEVEL="DEBUG") as server:
        for shown in (basic("VLT-0001", WRONG_KEY), basic(WRONG_KEY, KEY), {"Authorization": f"Bearer {KEY}"}):
            assert server.status(f"/ocpp/VLT-0001?token={KEY}", shown) == 401
        server.status("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Key": "none"})
        with ChargerClient(server.url, "VLT-0001", KEY) as charger:
            charger.boot()
            payment = money.pay(sandbox, kaveri_qr, 50_000, vpa=VPA, contact=f"+91{PHONE}")
            charger.start(1, payment.permit.tag, meter_wh=0)
            charger.heartbeat()
        secret = made_token(network.admin)
        api = Client(headers={"Authorization": f"Bearer {secret}"})
        answers = [api.get(f"/api/v1/charge-points/{path}") for path in ("", "VLT-0001/", "VLT-0001/commands/")]
        log = server.log.read_bytes()
    canaries = (KEY, WRONG_KEY, VPA, PHONE, secret)
    assert log and not [one for one in canaries if one.encode() in log]
    assert {answer.status_code for answer in answers} == {200}
    assert not [one for one in canaries for answer in answers if one.encode() in answer.content]
    assert rows_holding(KEY) == rows_holding(WRONG_KEY) == rows_holding(secret) == {}
    assert set(rows_holding(VPA)) <= {
        "accounts_user.vpa",
        "billing_qrpayment.vpa",
        "billing_webhookevent.payload",
        "billing_webhookevent.raw",
    }

    people = {"admin": ("/admin/",), "om": ("/console/chargers/",), "kaveri_user": ("/portal/",), "asha": ("/ride/",)}
    seen = {}
    for who, starts in people.items():
        pages = crawl(signed_in(getattr(network, who)), starts, within=("/admin/", "/console/", "/portal/", "/ride/"), of_a_kind=1)
        assert pages.bad() == {}, who
        seen[who] = len(pages.pages)
        for one in canaries:
            assert pages.holding(one) == [], (who, one)
    assert seen["admin"] > 80 and seen["om"] > 20, seen
    frames = body(signed_in(network.om).get("/console/messages.csv", {"charger": "VLT-0001"}))
    assert len(list(csv.reader(io.StringIO(frames.decode())))) > 5 and not [one for one in canaries if one.encode() in frames]


def made_token(person) -> str:
    """A program's key to the API, which is shown once."""
    return tokens.make(person, "canary")[1]


def rows_holding(text: str) -> dict[str, int]:
    """Every column of every table of ours that holds this text, in either case: how many rows."""
    found: dict[str, int] = {}
    with connection.cursor() as cursor:
        cursor.execute("SELECT table_name, column_name, data_type FROM information_schema.columns WHERE table_schema = 'public'")
        columns = [(table, column, kind) for table, column, kind in cursor.fetchall() if not table.startswith("django_session")]
        for table, column, kind in columns:
            value = f"encode(\"{column}\", 'escape')" if kind == "bytea" else f'"{column}"::text'
            cursor.execute(f'SELECT count(*) FROM "{table}" WHERE position(lower(%s) in lower({value})) > 0', [text])
            if count := cursor.fetchone()[0]:
                found[f"{table}.{column}"] = count
    assert len(columns) > 200
    return found

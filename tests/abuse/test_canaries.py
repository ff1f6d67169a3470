"""Looking for what must not be found: chargers' names where the public is, keys and UPI ids anywhere (A25, A26)."""

import csv
import io
import json
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client

from accounts import tokens
from accounts.models import ApiToken, AuditEntry
from csms import commands
from csms.models import ChargePoint, Command, OcppMessage
from csms.stations import add_charge_point
from tests import money
from tests.abuse.test_lines import _put_right, eventually  # noqa: F401 before and after every story
from tests.crawl import body, crawl
from tests.integration.conftest import kaveri_qr, sandbox  # noqa: F401 the same cast
from tests.server import basic, serving
from tests.simulate_client import ChargerClient
from tests.stories import signed_in
from voltaro import clock

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
def test_A26_no_key_and_no_upi_id_is_found_anywhere(sandbox, network, kaveri_qr, tmp_path):  # noqa: F811
    """A charger comes in, is refused, shows its key back in every way it can; a rider pays. Then: no table, no line of the server's log,
    no page for anybody, no file and no answer of the API holds the key; the UPI id stands in the payer's rows alone."""
    add_charge_point("VLT-0001", company=network.kaveri.company, key=KEY)
    with serving(tmp_path, alone=False, LOG_LEVEL="DEBUG") as server:
        for shown in (basic("VLT-0001", WRONG_KEY), basic(WRONG_KEY, KEY), {"Authorization": f"Bearer {KEY}"}):
            assert server.status(f"/ocpp/VLT-0001?token={KEY}", shown) == 401
        server.status("/ocpp/VLT-0001", {**basic("VLT-0001", KEY), "Sec-WebSocket-Key": "none"})
        with ChargerClient(server.url, "VLT-0001", KEY) as charger:
            charger.boot()
            mirror = {"configurationKey": [{"key": "AuthorizationKey", "readonly": False, "value": KEY}], "unknownKey": []}
            charger.automatic["GetConfiguration"] = mirror
            told = json.dumps({"AuthorizationKey": KEY, "nested": [{"password": KEY}]})
            charger.data_transfer("VoltLync", "Nonsense", told)
            charger.send(f'[2,"torn","DataTransfer",{{"vendorId":"v","data":"{{\\"AuthorizationKey\\": \\"{KEY}\\"')
            charger.send(f'[2,"bad","FooBar",{{"AuthorizationKey":"{KEY}"}}]')
            asked = commands.request(network.kaveri_charger, "GetConfiguration", {"key": ["AuthorizationKey"]}, trigger="test")
            eventually(lambda: Command.objects.get(pk=asked.pk).answered_at is not None)
            payment = money.pay(sandbox, kaveri_qr, 50_000, vpa=VPA, contact=f"+91{PHONE}")
            charger.start(1, payment.permit.tag, meter_wh=0)
            charger.heartbeat()
        token, secret = made_token(network.admin)
        log = server.log.read_bytes()
    assert log and not [one for one in (KEY, WRONG_KEY, VPA, PHONE, secret) if one.encode() in log]
    assert rows_holding(KEY) == rows_holding(WRONG_KEY) == {}
    assert set(rows_holding(VPA)) <= {
        "accounts_user.vpa",
        "billing_qrpayment.vpa",
        "billing_webhookevent.payload",
        "billing_webhookevent.raw",
    }

    people = {"admin": ("/admin/",), "om": ("/console/chargers/", "/console/messages/"), "kaveri_user": ("/portal/",), "asha": ("/ride/",)}
    seen = {}
    for who, starts in people.items():
        pages = crawl(signed_in(getattr(network, who)), starts, within=("/admin/", "/console/", "/portal/", "/ride/"), of_a_kind=2)
        assert pages.bad() == {}, who
        seen[who] = len(pages.pages)
        for one in (KEY, WRONG_KEY, VPA, PHONE, secret):
            assert pages.holding(one) == [], (who, one)
    assert seen["admin"] > 100 and seen["om"] > 30, seen
    om = signed_in(network.om)
    frames = body(om.get("/console/messages.csv", {"charger": "VLT-0001"}))
    assert len(list(csv.reader(io.StringIO(frames.decode())))) > 10 and KEY.encode() not in frames
    api = Client(headers={"Authorization": f"Bearer {secret}"})
    for path in ("", "VLT-0001/", "VLT-0001/commands/", f"VLT-0001/commands/{asked.pk}/"):
        answer = api.get(f"/api/v1/charge-points/{path}")
        assert answer.status_code == 200 and KEY.encode() not in answer.content, (path, answer.content[:200])
    assert token.revoked_at is None and OcppMessage.objects.filter(correlation_id="torn").exists()
    assert AuditEntry.objects.filter(action="connection.refused").exists() and clock.now() - payment.heard_at < timedelta(hours=1)


def made_token(person) -> tuple[ApiToken, str]:
    """A program's key to the API, and its secret, which is shown once."""
    return tokens.make(person, "canary")


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

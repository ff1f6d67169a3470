"""A26: a key is nobody's to read. One is changed on a real line, by a charger that repeats it wherever it can; then everything
that is kept or shown is searched for it: every table, the server's log, every list and page of the console, the API, the export."""

import json

import pytest
from asgiref.sync import async_to_sync
from django.apps import apps
from django.contrib import admin
from django.core.cache import cache
from django.db import connection
from django.urls import reverse
from websockets.exceptions import InvalidStatus

from csms import commands, rotation
from csms.models import ChargePoint, Command, OcppMessage
from csms.stations import add_charge_point
from tests.abuse.test_sockets import eventually, quiet
from tests.simulate_client import CallError, ChargerClient

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.e2e]
OLD = "5ec2e7" * 6 + "abcd"


def test_A26_a_key_that_is_changed_is_nowhere_to_be_read(server, network, client):
    cache.clear()
    server.forgive()
    row, _, _ = add_charge_point("VLT-0001", company=network.kaveri.company, key=OLD)
    secrets = [OLD, *changed_on_the_line(server, row)]
    assert len(set(secrets)) == 3
    forms = {form for key in secrets for form in (key, key.upper(), key.encode().hex(), bytes.fromhex(key).hex())}
    forms |= {bytes.fromhex(key).decode("latin-1") for key in secrets}

    everything = [*tables(), *pages(client, network), ("the server's log", server.log.read_text(errors="replace"))]
    assert len([where for where, text in everything if "HeartbeatInterval" in text]) > 5  # what is no secret is found so
    for where, text in everything:
        for form in forms:
            assert form.casefold() not in text.casefold(), f"{form[:8]}... stands in {where}"
    assert server.alive and server.mistakes == []


def changed_on_the_line(server, row: ChargePoint) -> list[str]:
    """Two new keys, the first refused, the second used: by a charger that says it back in every answer it gives."""
    keys = []
    with ChargerClient(server.url, "VLT-0001", OLD) as charger:
        charger.boot()
        rotation.rotate_key(row, by="om")
        asked = charger.expect("ChangeConfiguration", lambda call: CallError("InternalError", f"cannot store {call['value']}"))
        keys.append(asked["value"])
        eventually(lambda: Command.objects.filter(state="error").exists())
        rotation.withdraw(row)
        rotation.rotate_key(row)
        answer = {"status": "Accepted", "key": "AuthorizationKey"}
        asked = charger.expect("ChangeConfiguration", lambda call: {**answer, "value": call["value"].upper()})
        keys.append(asked["value"])
        eventually(lambda: Command.objects.filter(state="accepted").exists())
        commands.ask(row, "GetConfiguration", {}, by="om", trigger="console")
        held = [
            {"key": name, "readonly": False, "value": keys[1]} for name in ("AuthorizationKey", "BasicAuthPassword", "authorization_key")
        ]
        charger.expect("GetConfiguration", {"configurationKey": [*held, {"key": "HeartbeatInterval", "readonly": False, "value": "40"}]})
        eventually(lambda: Command.objects.filter(action="GetConfiguration", answered_at__isnull=False).exists())
        charger.call("DataTransfer", {"vendorId": "V", "messageId": "Password", "data": json.dumps({"password": keys[1]})})
        charger.send(f'[2,"torn","DataTransfer",{{"vendorId":"V","AuthorizationKey":"{keys[1]}')
        charger.send(f'[3,"nobody-asked",{{"configurationKey":[{{"key":"\\u0041uthorizationKey","value":"{keys[1]}"}}]}}]')
        charger.call("Heartbeat")
    with pytest.raises(InvalidStatus):
        ChargerClient(server.url, "VLT-0001", keys[0]).connect()
    with ChargerClient(server.url, "VLT-0001", bytes.fromhex(keys[1])) as charger:
        charger.boot()
    eventually(quiet)
    assert Command.objects.filter(state="effective", note__contains="new key").exists()
    assert OcppMessage.objects.filter(action="ChangeConfiguration").count() >= 4
    return keys


def tables() -> list[tuple[str, str]]:
    """Every row of every table, as text; frames as their bytes too."""
    found = []
    with connection.cursor() as cursor:
        for model in apps.get_models(include_auto_created=True):
            if not model._meta.managed:
                continue
            cursor.execute(f"SELECT coalesce(string_agg(t::text, chr(10)), '') FROM \"{model._meta.db_table}\" t")
            found.append((model._meta.db_table, cursor.fetchone()[0]))
    frames = b"\n".join(bytes(raw) for raw in OcppMessage.objects.values_list("raw", flat=True))
    return [*found, ("the frames", frames.decode("utf-8", "replace"))]


def pages(client, network) -> list[tuple[str, str]]:
    """Every list, row and page an admin can open."""
    client.force_login(network.admin)
    row = ChargePoint.objects.get(cp_id="VLT-0001")
    addresses = ["/admin/", f"/console/chargers/{row.pk}/", f"/console/chargers/{row.pk}/live/", f"/console/chargers/{row.pk}/security/"]
    addresses += ["/console/messages/?charger=VLT-0001", "/console/messages.csv?charger=VLT-0001"]
    addresses += [f"/console/messages/{pk}/" for pk in OcppMessage.objects.values_list("pk", flat=True)]
    addresses += [f"/console/frames/{pk}/" for pk in OcppMessage.objects.values_list("pk", flat=True)]
    addresses += [f"/console/commands/{pk}/" for pk in Command.objects.values_list("pk", flat=True)]
    for model in admin.site._registry:
        info = model._meta.app_label, model._meta.model_name
        addresses.append(reverse("admin:{}_{}_changelist".format(*info)))
        addresses += [
            reverse("admin:{}_{}_change".format(*info), args=[pk]) for pk in model._default_manager.values_list("pk", flat=True)[:50]
        ]
    found = []
    for address in addresses:
        response = client.get(address, follow=True)
        assert response.status_code == 200, address
        found.append((address, body(response).decode("utf-8", "replace")))
    return found


def body(response) -> bytes:
    if not response.streaming:
        return response.content
    if not response.is_async:
        return b"".join(response.streaming_content)

    async def all_of_it() -> bytes:
        return b"".join([part async for part in response.streaming_content])

    return async_to_sync(all_of_it)()

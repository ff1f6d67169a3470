"""Quirk profiles, a charger's habits and its configuration in the console."""

import re

import pytest
from django.apps import apps
from django.urls import reverse

from accounts.models import AuditEntry
from accounts.roles import Role
from csms import configuration, quirk_form, quirk_seeds, quirks, wishes
from csms.models import ChargePoint, Command, ConfigurationKey, FirmwareImage, QuirkProfile
from csms.rules import habits
from tests import factories
from tests.charger import Charger
from tests.configured import Box
from tests.stories import as_read, queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _profiles():
    quirks.forget()
    yield
    quirks.forget()


@pytest.fixture
def om(network, bells):
    return signed_in(network.om)


def change(row: QuirkProfile) -> str:
    return reverse("admin:csms_quirkprofile_change", args=[row.pk])


# -- what comes with the product ---------------------------------------------------------------------------------------
def test_known_models_are_there_from_the_start_and_each_is_sound():
    assert set(QuirkProfile.objects.values_list("name", flat=True)) == quirk_seeds.NAMES
    assert len(quirk_seeds.SEEDS) >= 25 and len(quirk_seeds.NAMES) == len(quirk_seeds.SEEDS)
    for seed in quirk_seeds.SEEDS:
        assert habits.check(seed.settings) == [] and seed.note, seed.name
        assert seed.vendor or seed.model or seed.name == "Every charger"


def test_what_an_operator_changed_stays_and_what_is_missing_comes_back():
    QuirkProfile.objects.filter(name="Alfen").update(settings={"settle_s": 99}, active=False, vendor="ALF*")
    QuirkProfile.objects.filter(name="Delta").delete()
    assert quirk_seeds.plant(apps) == 1
    assert quirk_seeds.plant(apps) == 0
    row = QuirkProfile.objects.get(name="Alfen")
    assert (row.settings, row.active, row.vendor) == ({"settle_s": 99}, False, "ALF*")


@pytest.mark.parametrize(
    ("vendor", "model", "firmware", "name", "value"),
    [
        ("Wall Box Chargers", "Copper SB", "5.1", "profile_kind", "Relative"),
        ("Wall Box Chargers", "Copper SB", "6.7.12", "heartbeat_timeout_s", 60),
        ("EV-BOX", "EVB-G3", "", "pending_first", True),
        ("EVBox", "Livo", "", "pending_first", True),
        ("United Chargers", "GRIZZL-E Smart", "", "without_subprotocol", True),
        ("Growatt", "THOR 22AS", "", "naive_time", "local"),
        ("abb", "Terra AC W22", "1.5.2", "read_back", False),
        ("Starcharge", "Artemis", "", "data_transfer", "accept"),
        ("EN+", "AC7000", "", "pings", False),
        ("Acme", "Fast 60", "1.0", "settle_s", habits.STANDARD.settle_s),
    ],
)
def test_a_charger_is_known_by_what_it_says_of_itself(vendor, model, firmware, name, value):
    assert getattr(quirks.habits_of(vendor, model, firmware, profile_pk=None, own={}), name) == value


# -- the form ----------------------------------------------------------------------------------------------------------
def test_every_setting_goes_through_the_form_and_comes_out_as_it_was():
    settings = {
        "subprotocols": ["ocpp1.6"], "without_subprotocol": True, "pings": False, "settle_s": 0, "energy_unit": "", "power_unit": "kW",
        "anonymous_tag": "FREE", "commands_unsupported": ["ClearCache", "Reset"], "configuration": {"A": "1", "B": "x = y", "C": ""},
    }  # fmt: skip
    fields = quirk_form.form_fields()
    shown = quirk_form.initial(settings)
    cleaned = {name: field.clean(shown.get(name)) for name, field in fields.items()}
    assert quirk_form.collect(cleaned) == settings
    assert quirk_form.collect({}) == {}
    assert quirk_form.initial({"nonsense": 1}) == {} and quirk_form.initial([]) == {}


def test_a_profile_is_edited_field_by_field_and_audited_before_and_after(om, network):
    row = QuirkProfile.objects.create(name="Acme", vendor="Acme", settings={"settle_s": 20})
    page = om.get(change(row)).content.decode()
    assert 'name="settle_s" value="20"' in page and "Its heartbeat interval is a third of it" in page
    posted = {"name": "Acme", "active": "on", "vendor": "Acme", "settle_s": "45", "read_back": "no", "energy_unit": "kWh",
              "configuration": "MeterValueSampleInterval = 30"}  # fmt: skip
    assert om.post(change(row), posted).status_code == 302
    row.refresh_from_db()
    assert row.settings == {
        "settle_s": 45, "read_back": False, "energy_unit": "kWh", "configuration": {"MeterValueSampleInterval": "30"}
    }  # fmt: skip
    entry = AuditEntry.objects.get(action="quirk_profile.changed")
    assert entry.before["settings"] == {"settle_s": 20} and entry.after["settings"]["settle_s"] == 45 and entry.user == network.om
    assert quirks.habits_of("ACME", "x", "", profile_pk=None, own={}).settle_s == 45


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"settle_s": "-1"}, "greater than or equal to 0"),
        ({"settle_s": "soon"}, "whole number"),
        ({"energy_unit": "J"}, "valid choice"),
        ({"subprotocols": "ocpp9"}, "list of texts out of ocpp1.6"),
        ({"configuration": "no equals sign"}, "is not a key"),
        ({"configuration": "AuthorizationKey = x"}, "set for each by itself"),
        ({"configuration": f"K = {'x' * 501}"}, "500 at most"),
        ({"vendor": ""}, "Say whom it speaks of"),
    ],
)
def test_what_is_wrong_is_said_at_its_field_and_nothing_is_saved(om, wrong, words):
    row = QuirkProfile.objects.create(name="Acme", vendor="Acme", settings={"settle_s": 20})
    answer = om.post(change(row), {"name": "Acme", "active": "on", "vendor": "Acme", **wrong})
    assert answer.status_code == 200 and words in answer.content.decode().replace("&#x27;", "'")
    row.refresh_from_db()
    assert row.settings == {"settle_s": 20}


def test_a_profile_shows_whom_it_speaks_of(om, network):
    row = QuirkProfile.objects.create(name="Acme", vendor="Ac*", settings={})
    ChargePoint.objects.filter(cp_id="VLT-0001").update(vendor="ACME", model="Fast")
    quirks.forget()
    page = om.get(change(row)).content.decode()
    assert "1 charger:" in page and "VLT-0001" in page and "VLT-0002" not in page
    listed = om.get(reverse("admin:csms_quirkprofile_changelist") + "?q=Acme").content.decode()
    assert "Ac*" in listed


def test_what_came_with_the_product_is_switched_off_not_deleted_nor_renamed(network, bells):
    admin = signed_in(network.admin)
    row = QuirkProfile.objects.get(name="Alfen")
    assert admin.post(reverse("admin:csms_quirkprofile_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    admin.post(change(row), {"name": "Mine", "vendor": "Alfen*", "note": "x"})
    row.refresh_from_db()
    assert (row.name, row.active) == ("Alfen", False)
    mine = QuirkProfile.objects.create(name="Mine", vendor="Z")
    assert admin.post(reverse("admin:csms_quirkprofile_delete", args=[mine.pk]), {"post": "yes"}).status_code == 302
    assert not QuirkProfile.objects.filter(name="Mine").exists()


def test_a_profiles_wishes_reach_its_chargers_at_once_and_leave_them_again(om, network):
    for cp_id in ("VLT-0001", "VLT-0002"):
        ChargePoint.objects.filter(cp_id=cp_id).update(
            vendor="Acme", model="Fast", quirk_settings={} if cp_id < "VLT-0002" else {"settle_s": 5}
        )
    wishes.wish(network.ganga_charger, "HeartbeatInterval", "77", by="om", now=clock.now())
    row = QuirkProfile.objects.create(name="Acme", vendor="Acme", settings={})
    quirks.forget()
    posted = {"name": "Acme", "active": "on", "vendor": "Acme", "configuration": "HeartbeatInterval = 60\nMeterValueSampleInterval=30"}
    om.post(change(row), posted)
    wanted = {
        (key.charge_point.cp_id, key.key): (key.wanted, key.wanted_by) for key in ConfigurationKey.objects.select_related("charge_point")
    }
    assert wanted == {
        ("VLT-0001", "HeartbeatInterval"): ("60", "profile: Acme"),
        ("VLT-0001", "MeterValueSampleInterval"): ("30", "profile: Acme"),
        ("VLT-0002", "HeartbeatInterval"): ("77", "om"),
        ("VLT-0002", "MeterValueSampleInterval"): ("30", "profile: Acme"),
    }
    om.post(change(row), {"name": "Acme", "vendor": "Acme", "configuration": posted["configuration"]})  # switched off
    assert set(ConfigurationKey.objects.filter(wanted__isnull=False).values_list("wanted", flat=True)) == {"77"}


def test_who_only_looks_changes_no_profile(network, bells):
    support = signed_in(factories.make_user("sam", "support", network.voltaro))
    row = QuirkProfile.objects.get(name="Alfen")
    assert support.get(change(row)).status_code == 200
    assert support.post(change(row), {"name": "Alfen", "vendor": "x"}).status_code == 403


# -- one charger's habits ----------------------------------------------------------------------------------------------
def habits_page(charge_point: ChargePoint) -> str:
    return reverse("csms:habits", args=[charge_point.pk])


def test_a_charger_shows_what_counts_for_it_and_who_says_so(om, network):
    QuirkProfile.objects.create(name="Acme", vendor="Acme", settings={"settle_s": 45, "configuration": {"HeartbeatInterval": "60"}})
    mine = ChargePoint.objects.filter(pk=network.kaveri_charger.pk)
    mine.update(vendor="Acme", quirk_settings={"quiet_s": 9}, clock_offset_s=19_800, learned={"naive_time": "local"})
    quirks.forget()
    page = om.get(habits_page(network.kaveri_charger)).content.decode()
    for said in ("Acme", "45", "its own settings", "HeartbeatInterval", "5 h 30 min ahead", "learned from its clock", "Every charger"):
        assert said in page, said
    assert (
        om.get(reverse("csms:charger", args=[network.kaveri_charger.pk])).content.decode().count(habits_page(network.kaveri_charger)) == 1
    )


def test_its_own_settings_and_profile_are_saved_audited_and_taken_up(om, network):
    chosen = QuirkProfile.objects.create(name="Chosen", vendor="Zed", settings={"stack_level": 3})
    posted = {
        **as_read(om, habits_page(network.kaveri_charger)),
        "quirk_profile": chosen.pk,
        "settle_s": "3",
        "configuration": "HeartbeatInterval = 44",
    }
    assert om.post(habits_page(network.kaveri_charger), posted).status_code == 302
    row = ChargePoint.objects.get(pk=network.kaveri_charger.pk)
    assert row.quirk_settings == {"settle_s": 3, "configuration": {"HeartbeatInterval": "44"}} and row.quirk_profile == chosen
    settled = quirks.of(row)
    assert (settled.settle_s, settled.stack_level) == (3, 3)
    assert ConfigurationKey.objects.get(charge_point=row).wanted_by == "profile: its own settings"
    entry = AuditEntry.objects.get(action="charge_point.habits")
    assert entry.before == {"profile": None, "settings": {}} and entry.after["settings"]["settle_s"] == 3
    assert om.post(habits_page(network.kaveri_charger), posted).status_code == 302, "the same once more (a double click) is no other word"
    assert AuditEntry.objects.filter(action="charge_point.habits").count() == 1


def test_of_two_who_edit_the_same_charger_the_second_is_told(om, network):
    page, second = habits_page(network.kaveri_charger), signed_in(factories.make_user("second", "operator", network.voltaro))
    first_read, second_read = as_read(om, page), as_read(second, page)
    ChargePoint.objects.get(pk=network.kaveri_charger.pk).save()  # what the charger says of itself is no other habit
    assert om.post(page, {**first_read, "settle_s": "3"}).status_code == 302
    answer = second.post(page, {**second_read, "settle_s": "7"})
    assert answer.status_code == 400 and "Somebody else has changed these habits" in answer.content.decode()
    row = ChargePoint.objects.get(pk=network.kaveri_charger.pk)
    assert row.quirk_settings == {"settle_s": 3}
    assert AuditEntry.objects.filter(action="charge_point.habits").count() == 1
    assert second.post(page, {**as_read(second, page), "settle_s": "7"}).status_code == 302


def test_a_mistake_in_its_settings_saves_nothing(om, network):
    answer = om.post(habits_page(network.kaveri_charger), {"settle_s": "x", "configuration": "??"})
    assert answer.status_code == 400 and ChargePoint.objects.get(pk=network.kaveri_charger.pk).quirk_settings == {}


def test_it_can_be_made_to_connect_anew(om, network):
    charger = Charger(network.kaveri_charger)
    address = reverse("csms:connect-anew", args=[network.kaveri_charger.pk])
    om.post(address)
    assert not ChargePoint.objects.get(pk=charger.row.pk).online
    assert AuditEntry.objects.filter(action="charge_point.hung_up").count() == 1
    om.post(address)
    assert AuditEntry.objects.filter(action="charge_point.hung_up").count() == 1


@pytest.mark.parametrize("name", ["habits", "configuration", "configuration-live"])
def test_who_sees_these_pages(network, bells, name):
    address = reverse(f"csms:{name}", args=[network.kaveri_charger.pk])
    assert signed_in(network.kaveri_user).get(address).status_code == 403
    assert signed_in(network.om).get(address).status_code == 200
    support = signed_in(factories.make_user("sam", "support", network.voltaro))
    page = support.get(address)
    assert page.status_code == 200 and b"Want this" not in page.content
    for deed in ("wish", "read-configuration", "connect-anew"):
        assert support.post(reverse(f"csms:{deed}", args=[network.kaveri_charger.pk]), {"key": "A", "value": "1"}).status_code == 403
    assert support.post(reverse("csms:habits", args=[network.kaveri_charger.pk]), {}).status_code == 403


# -- its configuration -------------------------------------------------------------------------------------------------
def configured(network) -> tuple[Charger, Box]:
    charger = Charger(network.kaveri_charger)
    charger.boot()
    clock.shift(130)
    box = Box(charger, {"HeartbeatInterval": "300", "NumberOfConnectors": "1"}, readonly=["NumberOfConnectors"])
    box.work()
    return charger, box


def test_the_page_shows_reported_beside_wanted_and_what_differs(om, network):
    _, box = configured(network)
    page = reverse("csms:configuration", args=[network.kaveri_charger.pk])
    assert "Nothing is wanted of it" in om.get(page).content.decode()
    om.post(reverse("csms:wish", args=[network.kaveri_charger.pk]), {"key": "HeartbeatInterval", "value": "60"})
    text = om.get(page).content.decode()
    assert "To be set" in text and "1 key not as wanted" in text
    box.work()
    text = om.get(page + "?show=wanted").content.decode()
    assert "As wanted" in text and "NumberOfConnectors" not in text.partition('class="vt-frames"')[2]
    assert "Nothing differs" in om.get(page + "?show=differs").content.decode()
    assert "it says it does not have" in om.get(page).content.decode()
    om.post(reverse("csms:wish", args=[network.kaveri_charger.pk]), {"key": "HeartbeatInterval", "withdraw": "1"})
    assert ConfigurationKey.objects.get(key="HeartbeatInterval").wanted is None


@pytest.mark.parametrize("key", ["AuthorizationKey", "", "NumberOfConnectors", "x" * 51])
def test_what_may_not_be_wished_is_said(om, network, key):
    configured(network)
    answer = om.post(reverse("csms:wish", args=[network.kaveri_charger.pk]), {"key": key, "value": "1"}, follow=True)
    assert answer.status_code == 200 and not ConfigurationKey.objects.filter(wanted__isnull=False).exists()


def test_a_restart_is_offered_when_one_is_due(om, network):
    configured(network)
    ConfigurationKey.objects.filter(key="HeartbeatInterval").update(state="reboot_required", wanted="9")
    text = om.get(reverse("csms:configuration", args=[network.kaveri_charger.pk])).content.decode()
    assert reverse("csms:ask", args=[network.kaveri_charger.pk, "Reset"]) in text


def test_it_is_read_again_when_somebody_asks(om, network):
    _, box = configured(network)
    address = reverse("csms:read-configuration", args=[network.kaveri_charger.pk])
    box.keys["HeartbeatInterval"] = "111"
    om.post(address)
    box.work()
    assert ConfigurationKey.objects.get(key="HeartbeatInterval").value == "111"
    om.post(address, {"everything": "1"})
    assert Command.objects.latest("pk").payload == {} and Command.objects.latest("pk").requested_by == "om"


def test_the_page_asks_a_fixed_number_of_questions(om, network):
    configured(network)
    page = reverse("csms:configuration", args=[network.kaveri_charger.pk])
    om.get(page)
    few = queries(om, page)
    many = {"configurationKey": [{"key": f"K{n}", "value": "x" * 300, "readonly": False} for n in range(300)]}
    configuration.store(network.kaveri_charger.pk, many, [], clock.now())
    assert queries(om, page) == few


# -- limits that a model does not bear ---------------------------------------------------------------------------------
def test_Q103_Q172_a_limit_that_would_end_its_session_is_not_asked(network, bells):
    from decimal import Decimal

    from django.core.exceptions import ValidationError

    from csms import charging_profiles
    from csms.models import ChargingProfile
    from csms.rules.profile import Step

    ChargePoint.objects.filter(pk=network.kaveri_charger.pk).update(quirk_settings={"least_current_a": 6, "number_phases": 3})
    row = ChargePoint.objects.get(pk=network.kaveri_charger.pk)

    def want(limit: str, unit: str) -> ChargingProfile:
        return charging_profiles.want(row, purpose="TxDefaultProfile", connector_no=1, steps=(Step(0, Decimal(limit)),), unit=unit)

    for limit, unit in (("5.9", "A"), ("1000", "W")):
        with pytest.raises(ValidationError, match="below 6 A"):
            want(limit, unit)
    for limit, unit in (("6", "A"), ("0", "A"), ("4140", "W")):
        assert charging_profiles._wish(want(limit, unit)).phases == 3


def test_a_charger_that_is_blocked_in_its_settings_is_cut_off(om, network):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    chosen = QuirkProfile.objects.create(name="Chosen", vendor="Zed", settings={"configuration": {"HeartbeatInterval": "44"}})
    quirks.forget()
    address = reverse("admin:csms_chargepoint_change", args=[charger.row.pk])
    posted = {"station": "", "registration": "Accepted", "blocked": "on", "quirk_profile": chosen.pk, "serial_number": ""}
    (connector,) = charger.row.connectors.all()
    inline = {"id": connector.pk, "charge_point": charger.row.cp_id, "type": connector.type, "max_power_w": connector.max_power_w}
    formset = {"connectors-TOTAL_FORMS": "1", "connectors-INITIAL_FORMS": "1", **{f"connectors-0-{k}": v for k, v in inline.items()}}
    answer = om.post(address, {**posted, **formset})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    row = ChargePoint.objects.get(pk=charger.row.pk)
    assert (row.blocked, row.online, row.quirk_profile) == (True, False, chosen)
    assert ConfigurationKey.objects.get(charge_point=row, wanted="44").wanted_by == "profile: Chosen"


def test_what_all_companies_share_is_changed_by_those_who_run_a_network(network):
    """A profile tells other companies' chargers what to be set to: an operator of one company below the network only reads it."""
    profile = QuirkProfile.objects.create(name="Shared", vendor="Acme", settings={})
    kala = signed_in(factories.make_user("kala", Role.OPERATOR, network.kaveri.company))
    usha = signed_in(factories.make_user("usha", Role.OPERATOR, network.voltaro))
    change, add = f"/admin/csms/quirkprofile/{profile.pk}/change/", "/admin/csms/quirkprofile/add/"
    filled = {"name": "Shared", "vendor": "Acme", "active": "on", "configuration": "HeartbeatInterval = 7"}
    assert kala.get(change).status_code == 200
    assert kala.post(change, filled).status_code == kala.get(add).status_code == kala.post(add, filled).status_code == 403
    assert kala.get("/admin/csms/rootcertificate/add/").status_code == 403
    profile.refresh_from_db()
    assert profile.settings == {}
    address = re.search(r'action="(/console/firmware/add/[^"]+)"', usha.get(reverse("csms:firmware")).content.decode())[1]
    assert "/console/firmware/add/" not in kala.get(reverse("csms:firmware")).content.decode()
    image = FirmwareImage.objects.create(name="A", version="2", sha256="0" * 64, file="a.bin")
    assert kala.post(address).status_code == kala.post(reverse("csms:firmware-image-remove", args=[image.pk])).status_code == 403
    assert usha.post(change, filled).status_code == 302
    profile.refresh_from_db()
    assert profile.settings == {"configuration": {"HeartbeatInterval": "7"}}
    assert usha.get("/admin/csms/rootcertificate/add/").status_code == 200

"""The pages about tags, local lists and reservations: who may, what they say, and what they cost."""

from datetime import timedelta

import pytest
from django.test import Client

from accounts.models import AuditEntry
from accounts.roles import Role
from csms import card_csv, tags
from csms.models import ChargingSession, Command, IdTag, LocalList, Reservation
from tests import factories
from tests.charger import Charger, later
from tests.stories import queries, signed_in
from voltaro import clock

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_remembered(bells):
    tags.forget()


@pytest.fixture
def om(network) -> Client:
    return signed_in(network.om)


@pytest.fixture
def support(network) -> Client:
    return signed_in(factories.make_user("sunil", Role.SUPPORT, network.voltaro))


@pytest.fixture
def card(network):
    def card(tag="04A2B3C4", **fields) -> IdTag:
        return IdTag.objects.create(tag=tag, **{"company": network.voltaro, **fields})

    return card


def page(client: Client, address: str, status: int = 200) -> str:
    answer = client.get(address)
    assert answer.status_code == status
    return answer.content.decode()


def send(client: Client, address: str, **fields) -> str:
    answer = client.post(address, fields, follow=True)
    assert answer.status_code == 200
    return answer.content.decode()


# -- who may ------------------------------------------------------------------------------------------------------------
PAGES = [
    "/console/tags/",
    "/console/tags/{tag}/",
    "/console/local-lists/",
    "/console/chargers/{charger}/local-list/",
    "/console/chargers/{charger}/local-list/live/",
    "/console/reservations/",
]
DEEDS = [
    "/console/tags/new/",
    "/console/tags/import/",
    "/console/tags.csv",
    "/console/chargers/{charger}/reserve/",
    "/console/chargers/{charger}/reserve/live/",
]


@pytest.mark.parametrize("address", [*PAGES, *DEEDS])
def test_who_may_look(network, om, support, card, address):
    looks = address in PAGES
    address = address.format(tag=card().pk, charger=network.kaveri_charger.pk)
    assert Client().get(address).status_code == 302
    assert signed_in(network.asha).get(address).status_code == 403
    assert signed_in(network.kaveri_user).get(address).status_code == 403
    assert om.get(address).status_code == 200
    assert support.get(address).status_code == (200 if looks else 403)


def test_who_may_do(network, support, card):
    row = card()
    reservation = Reservation.objects.create(
        charge_point=network.kaveri_charger, reservation_id=7, id_tag=row, expires_at=later(600), state="active"
    )
    here = network.kaveri_charger.pk
    for address, fields in [
        ("/console/tags/block/", {"tag": row.pk, "deed": "block"}),
        (f"/console/tags/{row.pk}/", {"tag": "X"}),
        ("/console/tags/new/", {"tag": "X"}),
        ("/console/tags/import/", {"text": "tag\nX"}),
        ("/console/local-lists/", {"charger": here, "deed": "on"}),
        (f"/console/chargers/{here}/local-list/", {"deed": "on"}),
        (f"/console/chargers/{here}/reserve/", {"tag": "X", "minutes": 5}),
        (f"/console/reservations/{reservation.pk}/cancel/", {}),
    ]:
        assert support.post(address, fields).status_code == 403, address
    assert IdTag.objects.count() == 1 and not LocalList.objects.exists() and not Command.objects.exists()


def test_somebody_elses_rows_are_not_there(network, card):
    """An operator of Kaveri's sees Kaveri's, not the network's above it."""
    lata = signed_in(factories.make_user("lata", Role.OPERATOR, network.kaveri.company))
    theirs, own = card("GANGA1", company=network.ganga.company), card("KAVERI1", company=network.kaveri.company)
    assert "KAVERI1" in page(lata, "/console/tags/") and "GANGA1" not in page(lata, "/console/tags/")
    page(lata, f"/console/tags/{theirs.pk}/", 404)
    page(lata, f"/console/chargers/{network.ganga_charger.pk}/local-list/", 404)
    page(lata, f"/console/chargers/{network.ganga_charger.pk}/reserve/", 404)
    send(lata, "/console/tags/block/", tag=[theirs.pk, own.pk], deed="block")
    send(lata, "/console/local-lists/", charger=[network.ganga_charger.pk], deed="on")
    theirs.refresh_from_db()
    own.refresh_from_db()
    assert (theirs.state, own.state) == ("ready", "blocked")
    assert not LocalList.objects.exists()
    assert "GANGA1" not in lata.get("/console/tags.csv").content.decode()


def test_only_operators_see_whole_numbers(network, om, support, card):
    row = card(note="Ravi")
    assert "04A2B3C4" in page(om, "/console/tags/?q=04:a2") and "04A2B3C4" in page(om, f"/console/tags/{row.pk}/")
    assert "04A2B3C4" not in page(support, "/console/tags/") and "…B3C4" in page(support, "/console/tags/")
    assert "No tag is like that" in page(support, "/console/tags/?q=04a2b3")
    assert "Ravi" in page(support, "/console/tags/?q=ravi")
    assert "04A2B3C4" not in page(support, f"/console/tags/{row.pk}/")


def test_one_time_permits_are_no_tags(network, om):
    permit = IdTag.objects.create(tag="PAID0001", kind="one_time", company=network.kaveri.company)
    assert "PAID0001" not in page(om, "/console/tags/")
    page(om, f"/console/tags/{permit.pk}/", 404)
    send(om, "/console/tags/block/", tag=permit.pk, deed="block")
    permit.refresh_from_db()
    assert permit.state == "ready"
    answer = page(om, f"/admin/csms/idtag/{permit.pk}/change/")
    assert "PAID0001" not in answer and "…0001" in answer


# -- the list -----------------------------------------------------------------------------------------------------------
def test_the_list_says_state_holder_and_where_it_was_last_used(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    card(note="Ravi", parent="FLEET")
    card("OLD1", expires_at=clock.now() - timedelta(days=1))
    card("BAD1", state="blocked")
    charger.start("04A2B3C4")
    said = page(om, "/console/tags/")
    assert "Ravi" in said and "charging now" in said and "VLT-0001" in said and "group FLEET" in said
    assert "May charge <b>1</b>" in said and "Blocked <b>1</b>" in said and "Expired <b>1</b>" in said
    assert "OLD1" in page(om, "/console/tags/?show=expired") and "OLD1" not in page(om, "/console/tags/?show=ready")
    assert "No tag is like that" in page(om, "/console/tags/?q=nobody")


def test_a_full_table_costs_no_more_queries(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    card()
    charger.start("04A2B3C4")
    here = {"charge_point": network.kaveri_charger, "connector": network.kaveri_connector, "expires_at": clock.now(), "state": "expired"}
    Reservation.objects.create(**here, reservation_id=1_000, id_tag=IdTag.objects.get())
    addresses = ["/console/tags/", f"/console/tags/{IdTag.objects.get().pk}/", "/console/local-lists/", "/console/reservations/?show=all"]
    few = [queries(om, one) for one in addresses]
    for number in range(60):
        row = card(f"CARD{number:04}")
        charger.start(f"CARD{number:04}", meter=number + 1)
        Reservation.objects.create(**here, reservation_id=number + 1, id_tag=row)
        one = factories.make_charge_point(f"X-{number:03}", network.kaveri.company)
        LocalList.objects.create(charge_point=one)
    assert [queries(om, one) for one in addresses] == few
    assert max(few) <= 25


def test_nobodys_tags_that_were_shown_lately_can_be_added(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    charger.call("Authorize", {"idTag": "aa:bb:cc:dd"})
    said = page(om, "/console/tags/")
    assert "Shown lately" in said and "/console/tags/new/?tag=AABBCCDD" in said and "VLT-0001" in said
    assert 'value="AABBCCDD"' in page(om, "/console/tags/new/?tag=AABBCCDD")
    card("AABBCCDD")
    assert "Shown lately" not in page(om, "/console/tags/")


# -- adding and changing ------------------------------------------------------------------------------------------------
def test_a_tag_is_added_in_the_form_it_is_compared_in(network, om):
    LocalList.objects.create(charge_point=network.kaveri_charger, state="in_step", next_try_at=later(9_999))
    until = later(86_400).strftime("%Y-%m-%dT%H:%M")
    said = send(
        om, "/console/tags/new/", tag=" 04:a2:b3:c4 ", note="Ravi", parent="fleet 7", company=network.kaveri.company.pk, expires_at=until
    )
    assert "04A2B3C4 may charge now." in said
    row = IdTag.objects.get()
    assert (row.tag, row.parent, row.note, row.company, row.created_by) == (
        "04A2B3C4",
        "FLEET7",
        "Ravi",
        network.kaveri.company,
        network.om,
    )
    entry = AuditEntry.objects.get(action="tag.added")
    assert entry.actor == "om" and "04A2B3C4" not in str(entry.after)
    assert LocalList.objects.get().next_try_at <= clock.now()  # its list is looked at


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ("04-A2-B3-C4", "04A2B3C4 is there already (Ravi)."),
        ("paid0001", "PAID0001 is there already."),
        ("--", "A tag has letters or digits."),
        ("A" * 21, "A tag has 20 letters and digits at most."),
        ("", "This field is required."),
    ],
)
def test_what_cannot_be_a_new_tag_is_said_in_a_sentence(network, om, card, tag, sentence):
    card(note="Ravi")
    IdTag.objects.create(tag="PAID0001", kind="one_time")
    assert sentence in send(om, "/console/tags/new/", tag=tag, company=network.voltaro.pk)
    assert IdTag.objects.count() == 2


def test_another_company_is_not_offered(network):
    lata = signed_in(factories.make_user("lata", Role.OPERATOR, network.kaveri.company))
    assert "valid choice" in send(lata, "/console/tags/new/", tag="NEW1", company=network.ganga.company.pk)
    assert not IdTag.objects.exists()


def test_a_change_is_put_on_record_and_no_change_is_none(network, om, card):
    row = card(note="Ravi")
    fields = {"tag": "04A2B3C4", "note": "Ravi", "company": network.voltaro.pk, "parent": ""}
    send(om, f"/console/tags/{row.pk}/", **fields)
    assert not AuditEntry.objects.filter(action="tag.changed").exists()
    send(om, f"/console/tags/{row.pk}/", **{**fields, "note": "Meera", "concurrent": "on", "person": "asha"})
    row.refresh_from_db()
    assert (row.note, row.concurrent, row.user) == ("Meera", True, network.asha)
    assert AuditEntry.objects.get(action="tag.changed").after == {"fields": ["note", "user_id", "concurrent"]}
    assert "Nobody signs in" in send(om, f"/console/tags/{row.pk}/", **{**fields, "person": "nobody"})


def test_what_the_authorizer_says_is_not_changed_by_hand(network, om, card):
    row = card("AABB0011", source="external", external_status="Accepted", parent="FLEET")
    send(om, f"/console/tags/{row.pk}/", tag="OTHER", parent="OTHER", note="Ravi", company=network.voltaro.pk)
    row.refresh_from_db()
    assert (row.tag, row.parent, row.note) == ("AABB0011", "FLEET", "Ravi")


def test_one_click_blocks_and_lets_charge_again(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    row = card()
    said = send(om, "/console/tags/block/", tag=row.pk, deed="block", back=row.pk)
    assert "1 tag is blocked." in said and "Let it charge again" in said
    assert charger.start("04A2B3C4")["idTagInfo"]["status"] == "Blocked"
    send(om, "/console/tags/block/", tag=row.pk, deed="unblock")
    assert charger.start("04A2B3C4", meter=7)["idTagInfo"]["status"] == "Accepted"
    actions = AuditEntry.objects.filter(target_type="csms.idtag", actor="om").order_by("pk").values_list("action", flat=True)
    assert list(actions) == ["tag.blocked", "tag.unblocked"]


def test_many_are_blocked_at_once(om, card):
    rows = [card(f"CARD{number}") for number in range(5)]
    assert "3 tags are blocked." in send(om, "/console/tags/block/", tag=[row.pk for row in rows[:3]], deed="block")
    assert IdTag.objects.filter(state="blocked").count() == 3
    assert "Choose tags first." in send(om, "/console/tags/block/", deed="block")
    assert "Choose tags first." in send(om, "/console/tags/block/", tag=["x", "9" * 30, "-1"], deed="block")


def test_a_tags_page_tells_its_sessions_and_why_it_was_refused(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    row = card(note="Ravi")
    charger.start("04A2B3C4")
    charger.charge(0, 2_000)
    charger.stop(2_000)
    row.state = "blocked"
    row.save()
    charger.call("Authorize", {"idTag": "04A2B3C4"})
    charger.start("04A2B3C4", meter=2_000)
    said = page(om, f"/console/tags/{row.pk}/")
    for session in ChargingSession.objects.all():
        assert f"/console/sessions/{session.pk}/" in said
    assert "2.000" in said and "Refused" in said and "Blocked" in said and "VLT-0001" in said


# -- files --------------------------------------------------------------------------------------------------------------
FILE = """tag;holder;group;valid until;several at once;state
04:A2:B3:C4;Ravi;fleet;31-03-2027;no;
AABBCCDD;=cmd();;2027-01-01 10:00;yes;blocked
"""
WRONG = """tag,valid until,several at once,company,state
GOOD1,,,,
,,,,
--,,,,
GOOD1,,,,
TAKEN1,,,,
X1,someday,,,
X2,,maybe,,
X3,,,Nobody Ltd,
X4,,,,odd
YYYYYYYYYYYYYYYYYYYYYYYYY,,,,"""


def test_a_file_is_looked_at_first_and_brought_in_then(network, om, card):
    card("04A2B3C4", note="Old")
    said = send(om, "/console/tags/import/", text=FILE, company=network.kaveri.company.pk)
    assert "1 new" in said and "1 changed" in said and IdTag.objects.count() == 1
    said = send(om, "/console/tags/import/", text=FILE, company=network.kaveri.company.pk, deed="bring_in")
    assert "2 tags brought in." in said
    ravi, other = IdTag.objects.order_by("pk")
    assert (ravi.note, ravi.parent, ravi.company, ravi.state) == ("Ravi", "FLEET", network.voltaro, "ready")
    assert ravi.expires_at.isoformat() == "2027-03-31T18:29:59+00:00"  # the day to its end, in India
    assert (other.note, other.company, other.concurrent, other.state) == ("=cmd()", network.kaveri.company, True, "blocked")
    assert AuditEntry.objects.filter(trigger="csv").count() == 3
    again = send(om, "/console/tags/import/", text=FILE, deed="bring_in")
    assert "0 tags brought in." in again


def test_one_wrong_line_and_nothing_changes(network, om, card):
    card("TAKEN1", company=None, kind="one_time")
    said = send(om, "/console/tags/import/", text=WRONG, company=network.voltaro.pk, deed="bring_in")
    for sentence in (
        "It names no tag.", "GOOD1 stands on line 2 already.", "TAKEN1 is taken.", "is no date", "neither yes nor no",
        "There is no company", "is no state", "more than 20 letters",
    ):  # fmt: skip
        assert sentence in said, sentence
    assert "8 wrong" in said
    assert IdTag.objects.count() == 1


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "Choose a file"),
        ("holder\nRavi", "must name the columns"),
        ("tag", "only a first line"),
        ('tag\n"A', "no CSV"),
        ("tag\n" + "\n".join(f"CARD{number}" for number in range(2_001)), "too many at once"),
    ],
)
def test_what_is_no_such_file_is_said(network, om, text, sentence):
    assert sentence in send(om, "/console/tags/import/", text=text)
    assert not IdTag.objects.exists()


def test_a_file_may_be_uploaded(network, om):
    from django.core.files.uploadedfile import SimpleUploadedFile

    file = SimpleUploadedFile("tags.csv", "\ufefftag,holder\r\n04A2B3C4,Ravi\r\n".encode())
    assert "1 new" in send(om, "/console/tags/import/", file=file, company=network.voltaro.pk)
    assert "not UTF-8" in send(om, "/console/tags/import/", file=SimpleUploadedFile("x.csv", b"tag\n\xff\xfe"))
    assert "too large" in send(om, "/console/tags/import/", file=SimpleUploadedFile("x.csv", b"x" * 1_000_001))


def test_what_goes_out_is_safe_to_open_and_comes_in_again_unchanged(network, om, card):
    card("AABBCCDD", note="=HYPERLINK(1)", expires_at=clock.now().replace(microsecond=0) + timedelta(days=1), concurrent=True)
    card("04A2B3C4", note='\'quoted, "so"', state="blocked", parent="FLEET")
    card("THEIRS", source="external", external_status="Accepted")
    answer = om.get("/console/tags.csv")
    text = answer.content.decode()
    assert "attachment" in answer["Content-Disposition"] and "'=HYPERLINK(1)" in text and ",=HYPERLINK" not in text and "THEIRS" not in text
    plan = card_csv.read(text, network.om, None)
    assert [line.verdict for line in plan.lines] == ["same", "same"], plan
    assert AuditEntry.objects.get(action="tags.exported").after == {"tags": 2}


# -- local lists ----------------------------------------------------------------------------------------------------------
def test_lists_are_switched_on_for_the_chosen_and_shown_wanted_and_reported(network, om, card):
    card()
    send(om, "/console/local-lists/", charger=[network.kaveri_charger.pk], deed="on")
    row = LocalList.objects.get()
    assert row.charge_point == network.kaveri_charger and row.enabled
    LocalList.objects.update(state="failed", wanted_version=4, reported_version=3, error="VersionMismatch")
    said = page(om, "/console/local-lists/?show=behind")
    assert "VLT-0001" in said and "VLT-0002" not in said and "VersionMismatch" in said and "Failed" in said
    assert "VLT-0001" not in page(om, "/console/local-lists/?show=off")
    said = page(om, f"/console/chargers/{network.kaveri_charger.pk}/local-list/")
    assert "Wanted version" in said and "Reported version" in said and "04A2B3C4" in said
    assert "switched off" in send(om, "/console/local-lists/", charger=[network.kaveri_charger.pk], deed="off")
    assert not LocalList.objects.get().enabled
    assert "Choose chargers first." in send(om, "/console/local-lists/", deed="on")


def test_a_list_spells_out_only_the_tags_of_ones_own_companies(network, om, card):
    card("NETWORK1")
    card("KAVERI01", company=network.kaveri.company)
    lata = signed_in(factories.make_user("lata", Role.OPERATOR, network.kaveri.company))
    here = f"/console/chargers/{network.kaveri_charger.pk}/local-list/"
    assert "NETWORK1" in page(om, here) and "KAVERI01" in page(om, here)
    said = page(lata, here)
    assert "KAVERI01" in said and "NETWORK1" not in said and "…ORK1" in said


def test_try_again_switches_nothing_on(network, om):
    send(om, "/console/local-lists/", charger=[network.kaveri_charger.pk], deed="again")
    assert not LocalList.objects.exists()


# -- reservations -----------------------------------------------------------------------------------------------------------
def test_an_operator_reserves_and_cancels(network, om, card):
    charger = Charger(network.kaveri_charger)
    charger.boot()
    card(note="Ravi")
    here = f"/console/chargers/{network.kaveri_charger.pk}/reserve/"
    assert "There is no such tag." in send(om, here, tag="nobody", minutes=30)
    said = send(om, here, tag="ravi", minutes=30, connector=network.kaveri_connector.pk)
    assert "The charger has been asked." in said and "Asked" in said
    row = Reservation.objects.get()
    assert (row.connector, row.created_by) == (network.kaveri_connector, network.om)
    charger.accept(charger.command()[0], {"status": "Accepted"})
    said = page(om, "/console/reservations/")
    assert "Kept" in said and "VLT-0001" in said and "04A2B3C4" in said
    assert "already reserved" in send(om, here, tag="04A2B3C4", minutes=30, connector=network.kaveri_connector.pk)
    send(om, f"/console/reservations/{row.pk}/cancel/")
    assert "Being cancelled" in page(om, "/console/reservations/")
    charger.accept(charger.command()[0], {"status": "Accepted"})
    assert "Nothing is reserved." in page(om, "/console/reservations/")
    assert "Cancelled" in page(om, "/console/reservations/?show=all")


def test_the_charger_page_leads_there(network, om, support):
    here = network.kaveri_charger.pk
    said = page(om, f"/console/chargers/{here}/")
    assert f"/console/chargers/{here}/local-list/" in said and f"/console/chargers/{here}/reserve/" in said
    assert f"/console/chargers/{here}/reserve/" not in page(support, f"/console/chargers/{here}/")

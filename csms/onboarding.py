"""New chargers: who has knocked under a name we do not know, and the operator's window in which they are let in to wait.

A stranger is refused like a wrong password (csms/doors.py) and noted here, rarely and in bounded numbers. While a window is open
it gets a row of its own: Pending, unclaimed, with the key it showed first. It may boot and send heartbeats, nothing else, until a
person claims it; blocked it never comes in again. When the window closes, whoever was not claimed is a stranger as before.
"""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet

from accounts import audit
from accounts.actor import acting
from accounts.models import Company
from accounts.roles import OPERATES, companies_of, roles_of, sees_everything
from csms import credentials, stations
from csms.frames import clean
from csms.models import ChargePoint, OnboardingWindow, Registration, Station, UnknownCharger
from voltaro import clock
from voltaro.jobs import each

State = UnknownCharger.State
OPEN_FOR, OPEN_AT_MOST = timedelta(minutes=30), timedelta(hours=24)
# So many come in through one window, so many a minute from one address.
LET_IN_AT_MOST, LET_IN_A_MINUTE = 50, 10
# So many rows of strangers are kept; so many are written a minute.
STRANGERS, NOTED_A_MINUTE = 500, 120
# A key that may be kept when it is shown first (OCPP 1.6 security whitepaper, A01: 16 bytes at least).
SHORTEST_KEY = 16
Count = Callable[[str, int], int]


# -- at the door -------------------------------------------------------------------------------------------------------
_NOTE = """
INSERT INTO csms_unknowncharger AS mine (identity, address, attempts, first_at, last_at, had_key, state, created_at, updated_at)
VALUES (%(identity)s, %(address)s, %(attempts)s, %(now)s, %(now)s, %(had_key)s, 'new', %(now)s, %(now)s)
ON CONFLICT (upper(identity)) DO UPDATE SET address = excluded.address, attempts = mine.attempts + excluded.attempts,
  last_at = excluded.last_at, had_key = mine.had_key OR excluded.had_key, updated_at = excluded.updated_at
RETURNING xmax = 0"""
_FORGET = """
DELETE FROM csms_unknowncharger WHERE id IN (
  SELECT id FROM csms_unknowncharger WHERE state = 'new' AND charge_point_id IS NULL ORDER BY last_at DESC OFFSET %s)"""


def knocked(identity: str, address: str, had_key: bool, now: datetime, count: Count) -> None:
    """Somebody was refused under a name we do not know. `count(key, window_s)` says how often that was so within the window.

    Written with the first attempt within a minute, the second, the fourth ...: none is lost, few are written.
    """
    identity = clean(identity)[:48]
    number = count(f"knock:{identity.casefold()}", 60)
    if number & (number - 1) or count("knocks", 60) > NOTED_A_MINUTE:
        return
    told = {"identity": identity, "address": address[:64], "attempts": max(1, number // 2), "now": now, "had_key": had_key}
    with connection.cursor() as cursor:
        cursor.execute(_NOTE, told)
        if cursor.fetchone()[0]:
            cursor.execute(_FORGET, [STRANGERS])


def open_windows(now: datetime) -> QuerySet[OnboardingWindow]:
    return OnboardingWindow.objects.filter(closes_at__gt=now)


def may_wait(charge_point_pk: int, now: datetime) -> bool:
    """Whether somebody has a window open for this charger that nobody has claimed yet."""
    mine = ChargePoint.objects.filter(pk=charge_point_pk, company=OuterRef("company"))
    return open_windows(now).filter(Exists(mine)).exists()


def let_in(identity: str, address: str, authorization: bytes | None, offered: tuple[str, ...], now: datetime, count: Count) -> bool:
    """Give a stranger a row of its own to wait in, if somebody has a window open for it; True when it may try again at once."""
    window = open_windows(now).filter(let_in__lt=LET_IN_AT_MOST).order_by("-id").first()
    if window is None or UnknownCharger.objects.filter(identity__iexact=identity).exclude(state=State.NEW).exists():
        return False
    if count(f"let_in:{address}", 60) > LET_IN_A_MINUTE:
        return False
    try:
        with acting("charger", identity), transaction.atomic():
            return _make(window, identity, address, authorization, offered, now)
    except IntegrityError:  # two sockets of one charger: the other one has made it a moment ago
        return True


def _make(
    window: OnboardingWindow, identity: str, address: str, authorization: bytes | None, offered: tuple[str, ...], now: datetime
) -> bool:
    taken = OnboardingWindow.objects.filter(pk=window.pk, closes_at__gt=now, let_in__lt=LET_IN_AT_MOST)
    if not taken.select_for_update(no_key=True).exists():
        return False
    if ChargePoint.objects.filter(cp_id__iexact=identity).exists():  # made by another socket of it a moment ago
        return True
    OnboardingWindow.objects.filter(pk=window.pk).update(let_in=F("let_in") + 1, updated_at=now)
    user, password = credentials.read_basic(authorization) or ("", b"")
    keyed = user.casefold() == identity.casefold() and len(password) >= SHORTEST_KEY
    charge_point = ChargePoint.objects.create(
        cp_id=identity,
        company_id=window.company_id,
        registration=Registration.PENDING,
        unclaimed=True,
        security_profile=1 if keyed else 0,
        credentials_hash=credentials.hashed(identity, password) if keyed else "",
        credentials_at=now if keyed else None,
        # Q1: once it has come in so, it must be able to come again.
        quirk_settings={} if any(one.strip() for one in offered) else {"without_subprotocol": True},
    )
    row, _ = UnknownCharger.objects.select_for_update(no_key=True).get_or_create(
        identity__iexact=identity, defaults={"identity": identity, "first_at": now, "attempts": 0}
    )
    row.charge_point, row.address, row.last_at, row.had_key = charge_point, address[:64], now, keyed
    row.attempts += 1
    row.save()
    audit.record(
        "onboarding.let_in", charge_point, after={"identity": identity, "address": address[:64], "key": keyed, "window": window.pk}
    )
    return True


# -- the window --------------------------------------------------------------------------------------------------------
@transaction.atomic
def open_window(company: Company, user: Any, *, minutes: int, now: datetime) -> OnboardingWindow:
    """Let new chargers in for so long; a window of this company that is open is moved. Raises ValidationError."""
    length = timedelta(minutes=minutes)
    if not timedelta(0) < length <= OPEN_AT_MOST:
        raise ValidationError("A window is open for a minute at least, and for a day at most.")
    Company.objects.select_for_update(no_key=True).get(pk=company.pk)
    window = open_windows(now).filter(company=company).order_by("-id").first()
    if window is None:
        window = OnboardingWindow(company=company, opened_by=user, opened_at=now)
    window.closes_at = now + length
    window.save()
    audit.record("onboarding.opened", window, after={"closes_at": window.closes_at.isoformat(), "company": company.name})
    return window


@transaction.atomic
def close_window(window: OnboardingWindow, now: datetime) -> None:
    """Nobody new comes in any more; who waits unclaimed is sent away."""
    changed = OnboardingWindow.objects.filter(pk=window.pk, closes_at__gt=now).update(closes_at=now, updated_at=now)
    if changed:
        audit.record("onboarding.closed", window, after={"let_in": window.let_in})
        transaction.on_commit(lambda: send_away_due(now, LET_IN_AT_MOST))


def to_send_away(now: datetime) -> QuerySet[UnknownCharger]:
    """Chargers that came in through a window which is closed now, still connected and claimed by nobody."""
    waits = UnknownCharger.objects.filter(state=State.NEW, charge_point__unclaimed=True, charge_point__online=True)
    return waits.exclude(Exists(open_windows(now).filter(company=OuterRef("charge_point__company")))).order_by("pk")


def send_away_due(now: datetime, limit: int) -> int:
    """Hang up on them: from then on they are refused at the door as strangers are."""
    rows = dict(to_send_away(now).values_list("pk", "charge_point_id")[:limit])
    return each(list(rows), lambda pk: stations.hang_up(rows[pk], "unclaimed", now), "unclaimed charger")


# -- the inbox ---------------------------------------------------------------------------------------------------------
def inbox(user: Any) -> QuerySet[UnknownCharger]:
    """Who has knocked, as far as this person may know: strangers at the door for whoever runs a network; the others by their row."""
    rows = UnknownCharger.objects.select_related("charge_point__company", "charge_point__station")
    if sees_everything(user):
        return rows
    runs = Company.objects.filter(pk__in=companies_of(user), parent__isnull=True).exists() and bool(roles_of(user) & OPERATES)
    mine = Q(charge_point__company__in=companies_of(user))
    return rows.filter(mine | Q(charge_point__isnull=True) if runs else mine)


def networks_of(user: Any) -> QuerySet[Company]:
    """The companies for which this person may open a window."""
    return Company.objects.visible_to(user).filter(parent__isnull=True).order_by("name")


@transaction.atomic
def claimed(charge_point: ChargePoint, *, identity: str, station: Station | None = None) -> None:
    """This charger is ours: accepted with its next boot. Its connectors are made by whoever asks (voltaro/onboarding_pages.py)."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point.pk)
    row.registration, row.unclaimed, row.blocked = Registration.ACCEPTED, False, False
    serial = row.reported_serial
    if serial and row.serial_number is None and not ChargePoint.objects.filter(serial_number=serial).exists():
        row.serial_number = serial
    row.station = station or row.station
    row.save(update_fields=["registration", "unclaimed", "blocked", "serial_number", "station"])
    mine = UnknownCharger.objects.filter(identity__iexact=identity)
    mine.update(state=State.CLAIMED, charge_point=row, updated_at=clock.now())
    audit.record("onboarding.claimed", row, after={"identity": row.cp_id, "vendor": row.vendor, "model": row.model, "serial": serial})


@transaction.atomic
def block(unknown: UnknownCharger, now: datetime) -> None:
    """This one is never let in."""
    row = UnknownCharger.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point").get(pk=unknown.pk)
    if row.state == State.CLAIMED:
        raise ValidationError(f"{row.identity} is one of ours. Block it on its own page.")
    row.state = State.BLOCKED
    row.save(update_fields=["state"])
    if row.charge_point is not None:
        ChargePoint.objects.filter(pk=row.charge_point_id).update(blocked=True, updated_at=now)
        stations.hang_up(row.charge_point_id, "blocked", now)
    audit.record("onboarding.blocked", row.charge_point or row, after={"identity": row.identity, "address": row.address})


@transaction.atomic
def forget(unknown: UnknownCharger, now: datetime) -> None:
    """Put it away: blocked, it may knock again; not claimed, it leaves nothing behind but its frames."""
    row = UnknownCharger.objects.select_for_update(no_key=True, of=("self",)).select_related("charge_point").get(pk=unknown.pk)
    if row.state == State.CLAIMED:
        raise ValidationError(f"{row.identity} is one of ours.")
    audit.record("onboarding.forgotten", row, before={"identity": row.identity, "state": row.state})
    waits = row.charge_point
    row.delete()
    if waits is not None and waits.unclaimed:
        stations.hang_up(waits.pk, "forgotten", now)
        waits.delete()

"""Chargers' own certificates (security profile 3): asked for by SignCertificate, made by our authority, given by CertificateSigned,
seen at the door, renewed before they end, revoked by a person.

SignCertificate is answered at once; the certificate follows in a call of its own (whitepaper A02, A03). When it cannot be made,
or the charger does not take it, a person is told and nothing is tried again by itself.
"""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat

from accounts import audit
from csms import alerts, authority, commands, pem, stations
from csms.events import CertificateAsked
from csms.models import ChargePoint, ChargerCertificate, Command, CommandState, ConfigurationKey, Connection
from csms.pem import Paper, Unusable
from voltaro import clock
from voltaro.jobs import each, ring

State = ChargerCertificate.State
ALERT = "certificate"
ASK = ("ExtendedTriggerMessage", {"requestedMessage": "SignChargePointCertificate"})
# So many requests a day are answered; a charger that asks again and again has a fault, and each costs a signature.
A_DAY = 10
RENEW_DAYS, ASK_AGAIN_DAYS = 30, 5
# The answer to SignCertificate first, then the certificate (R53).
AFTER_S = 1
# How long a new certificate waits for a charger that is away.
WAITS_S = 7 * 24 * 3600
LONGEST_CHAIN = 10_000
# States in which the charger may hold it without our knowing.
_MAY_HOLD = (State.ISSUED, State.SENT, State.FAILED, State.REJECTED)


# -- asked for ---------------------------------------------------------------------------------------------------------
def asked(charge_point_pk: int, said: CertificateAsked, now: datetime) -> tuple[bool, str]:
    """SignCertificate: whether one will be made, and a note. What is refused raises an alert that says why."""
    row = ChargePoint.objects.select_for_update(no_key=True).get(pk=charge_point_pk)
    mine = ChargerCertificate.objects.filter(charge_point=row)
    if said.csr and mine.filter(state__in=[State.ASKED, State.ISSUED, State.SENT], csr=said.csr.strip()).exists():
        return True, "asked already"
    made = ChargerCertificate(charge_point=row, csr=said.csr.strip())
    last = list(mine.order_by("-id").values_list("created_at", flat=True)[:A_DAY])
    too_often = len(last) == A_DAY and last[-1] > now - timedelta(days=1)
    try:
        if not settings.CHARGER_CA_DIR:
            raise Unusable("We have no authority for chargers' certificates (CHARGER_CA_DIR).")
        if too_often:
            raise Unusable(f"It has asked for {A_DAY} certificates within a day.")
        request = pem.read_request(said.csr)
        _may_be_named(row, request.common_name, request.organisation)
    except Unusable as error:
        alerts.raise_alert(row.pk, ALERT, f"Its request for a certificate was refused: {error}", now)
        if not too_often:
            made.state, made.error = State.REFUSED, str(error)[:200]
            made.save()
        audit.record("certificate.refused", row, after={"why": str(error)[:200]})
        return False, str(error)[:200]
    made.save()
    audit.record("certificate.asked", made)
    ring("certificate.asked")
    return True, ""


def names(row: ChargePoint) -> tuple[str, ...]:
    """The common names its certificate may bear."""
    return (row.certificate_name,) if row.certificate_name else (row.cp_id, row.serial_number or "")


def _may_be_named(row: ChargePoint, common_name: str, organisation: str) -> None:
    if not common_name or common_name.casefold() not in {name.casefold() for name in names(row) if name}:
        raise Unusable(f"It asks for the name {common_name[:64]!r}, which is not its own.")
    # A charger chooses its serial number itself, at its first boot: it must not be another charger's name.
    others = ChargePoint.objects.exclude(pk=row.pk).filter(
        Q(cp_id__iexact=common_name) | Q(serial_number__iexact=common_name) | Q(certificate_name__iexact=common_name)
    )
    if others.exists():
        raise Unusable(f"The name {common_name[:64]!r} is another charger's.")
    if organisation and settings.CPO_NAME and organisation.casefold() != settings.CPO_NAME.casefold():
        raise Unusable(f"It asks for the organisation {organisation[:64]!r}; ours is {settings.CPO_NAME!r} (its CpoName).")


def ask_charger(charge_point: ChargePoint, *, by: str = "", background: bool = False, dedupe_key: str | None = None) -> Command:
    """Ask the charger to ask for a certificate, under our name."""
    if not background:
        name = {"key": "CpoName", "value": settings.CPO_NAME}
        commands.request(charge_point, "ChangeConfiguration", name, trigger="certificate", expires_in_s=300, requested_by=by)
    action, payload = ASK
    expires_in_s = WAITS_S if background else 300
    return commands.request(
        charge_point,
        action,
        dict(payload),
        trigger="certificate",
        dedupe_key=dedupe_key,
        expires_in_s=expires_in_s,
        requested_by=by,
        background=background,
    )


# -- made, and given to the charger ------------------------------------------------------------------------------------
def to_make(now: datetime) -> QuerySet[ChargerCertificate]:
    """Asked for and not made yet."""
    return ChargerCertificate.objects.filter(state=State.ASKED).order_by("id")


def make_due(now: datetime, limit: int) -> int:
    """Make what was asked for and send it."""
    return each(list(to_make(now).values_list("pk", flat=True)[:limit]), lambda pk: _make(pk, now), "certificate")


@transaction.atomic
def _make(pk: int, now: datetime) -> bool:
    made = to_make(now).select_for_update(skip_locked=True, of=("self",), no_key=True).filter(pk=pk).first()
    if made is None:
        return False
    try:
        request = pem.read_request(made.csr)
        issued = authority.sign(request, request.common_name, now)
        chain = _fitting(made.charge_point_id, issued)
        paper = pem.read_certificate(issued.leaf)
    except (authority.Unavailable, Unusable) as error:
        _failed(made, str(error), now)
        return True
    made.chain, made.serial, made.sha256 = chain, paper.serial, paper.sha256
    made.not_before, made.not_after, made.state = paper.not_before, paper.not_after, State.SENT
    made.command = commands.request(
        made.charge_point,
        "CertificateSigned",
        {"certificateChain": chain},
        trigger="certificate",
        dedupe_key=f"certificate:{made.pk}",
        expires_in_s=WAITS_S,
        requested_by="certificates",
        send_after=now + timedelta(seconds=AFTER_S),
    )
    made.save()
    audit.record("certificate.made", made, after={"serial": made.serial, "until": made.not_after.isoformat()})
    return True


def _fitting(charge_point_pk: int, issued: authority.Issued) -> str:
    """As much of the chain as the charger takes. Raises Unusable when not even its own certificate fits."""
    told = ConfigurationKey.objects.filter(charge_point=charge_point_pk, key__iexact="CertificateSignedMaxChainSize").values_list("value")
    said = str((told.first() or ("",))[0] or "").strip()
    limit = min(int(said), LONGEST_CHAIN) if said.isdecimal() and len(said) < 9 and int(said) else LONGEST_CHAIN
    for chain in (issued.leaf + issued.intermediate, issued.leaf):
        if len(chain) <= limit:
            return chain
    raise Unusable(f"The certificate has {len(issued.leaf)} characters; it takes {limit}.")


def answered(command: Command, now: datetime) -> None:
    """CertificateSigned.conf: it holds the certificate, or does not want it. Not sent again by itself: a loop helps nobody."""
    made = _of(command)
    if made is None or made.state not in _MAY_HOLD:
        return
    status = str((command.response or {}).get("status", ""))
    if status == "Accepted":
        _holds(made, now)
    elif status or command.error:
        made.state, made.error = State.REJECTED, (status or command.error)[:200]
        made.save(update_fields=["state", "error", "updated_at"])
        alerts.raise_alert(made.charge_point_id, ALERT, f"It did not take its new certificate: {status or command.error}", now)
        audit.record("certificate.rejected", made, after={"why": made.error})


def ended(command: Command, now: datetime) -> None:
    """No answer came, or it was never sent."""
    made = _of(command)
    if made is not None and made.state == State.SENT and command.state == CommandState.EXPIRED:
        why = "The charger did not answer." if command.sent_at else command.note or "The charger was away too long."
        _failed(made, why, now)


def _of(command: Command) -> ChargerCertificate | None:
    return ChargerCertificate.objects.select_for_update(of=("self",), no_key=True).filter(command=command).first()


def _holds(made: ChargerCertificate, now: datetime) -> None:
    made.state, made.error = State.ACCEPTED, ""
    made.save(update_fields=["state", "error", "updated_at"])
    alerts.clear(made.charge_point_id, ALERT, now)
    audit.record("certificate.installed", made)


def _failed(made: ChargerCertificate, why: str, now: datetime) -> None:
    made.state, made.error = State.FAILED, why[:200]
    made.save(update_fields=["state", "error", "updated_at"])
    alerts.raise_alert(made.charge_point_id, ALERT, f"It has no new certificate: {why}", now)
    audit.record("certificate.failed", made, after={"why": made.error})


# -- at the door -------------------------------------------------------------------------------------------------------
def trouble(charge_point_pk: int, sha256: str) -> tuple[str, bool]:
    """Why a certificate with this fingerprint opens nothing here ("": nothing speaks against it), and whether to write it down."""
    found = list(ChargerCertificate.objects.filter(sha256=sha256).values_list("charge_point_id", "state")[:10])
    if any(state == State.REVOKED for _, state in found):
        return "certificate_revoked", False
    if found and charge_point_pk not in {owner for owner, _ in found}:
        return "certificate_of_another", False
    return "", (charge_point_pk, State.ACCEPTED) not in found


def seen(charge_point_pk: int, paper: Paper, now: datetime) -> None:
    """It came in with this certificate: it holds it, whatever it answered. One that is not ours is written down too."""
    mine = ChargerCertificate.objects.filter(charge_point=charge_point_pk, sha256=paper.sha256)
    if (made := mine.first()) is None:
        made = ChargerCertificate(charge_point_id=charge_point_pk, chain=paper.pem, serial=paper.serial, sha256=paper.sha256)
        made.not_before, made.not_after, made.error = paper.not_before, paper.not_after, f"Not ours: by {paper.issuer}"[:200]
        made.state = State.ACCEPTED
        made.save()
        audit.record("certificate.seen", made, after={"issuer": paper.issuer})
    elif made.state in _MAY_HOLD:
        _holds(made, now)


def proven(charge_point_pk: int, now: datetime) -> bool:
    """Whether the charger holds a certificate that is good now."""
    return ChargerCertificate.objects.filter(charge_point=charge_point_pk, state=State.ACCEPTED, not_after__gt=now).exists()


# -- renewed, revoked --------------------------------------------------------------------------------------------------
def to_renew(now: datetime) -> QuerySet[ChargerCertificate]:
    """Ours, in use, ending within RENEW_DAYS, with no newer one; each is due once in ASK_AGAIN_DAYS."""
    newer = ChargerCertificate.objects.filter(
        charge_point=OuterRef("charge_point"), pk__gt=OuterRef("pk"), state__in=[State.ASKED, State.ISSUED, State.SENT, State.ACCEPTED]
    )
    text = TextField()
    key = Concat(Value("renew:", text), Cast(OuterRef("pk"), text), Value(f":{_window(now)}", text))
    asked = Command.objects.filter(dedupe_key=key)
    ending = ChargerCertificate.objects.filter(state=State.ACCEPTED, not_after__gt=now, not_after__lt=now + timedelta(days=RENEW_DAYS))
    return ending.exclude(csr="").exclude(Exists(newer)).exclude(Exists(asked)).order_by("not_after")


def renew_due(now: datetime, limit: int) -> int:
    """Ask those chargers to ask for a new one, when nobody waits for anything else of them; tell a person in the last week."""

    @transaction.atomic
    def renew(pk: int) -> bool:
        ending = ChargerCertificate.objects.select_related("charge_point").get(pk=pk)
        ask_charger(ending.charge_point, by="certificates", background=True, dedupe_key=f"renew:{pk}:{_window(now)}")
        if ending.not_after - now < timedelta(days=7):
            alerts.raise_alert(
                ending.charge_point_id, ALERT, f"Its certificate ends on {ending.not_after:%d %b %Y}; it has asked for no new one.", now
            )
        return True

    return each(list(to_renew(now).values_list("pk", flat=True)[:limit]), renew, "certificate")


def _window(now: datetime) -> int:
    return int(now.timestamp()) // (ASK_AGAIN_DAYS * 24 * 3600)


@transaction.atomic
def revoke(made: ChargerCertificate, reason: str = "") -> None:
    """From now on it opens nothing, and a line that it may have opened is closed. The list for the proxy is written by
    `manage.py charger_ca --crl`."""
    row = ChargerCertificate.objects.select_for_update(of=("self",), no_key=True).get(pk=made.pk)
    if row.state == State.REVOKED:
        return
    row.state, row.error = State.REVOKED, reason[:200]
    row.save(update_fields=["state", "error", "updated_at"])
    audit.record("certificate.revoked", row, after={"why": reason[:200]})
    newest = Connection.objects.filter(charge_point=row.charge_point_id).order_by("-epoch").first()
    if newest is not None and newest.closed_at is None and newest.security_profile == 3:
        stations.hang_up(row.charge_point_id, "its certificate was revoked", clock.now())


def revoked() -> list[tuple[str, datetime]]:
    """(serial, since) of what our authority has made and a person has revoked, and that has not ended anyway."""
    rows = ChargerCertificate.objects.filter(state=State.REVOKED, not_after__gt=clock.now()).exclude(csr="").exclude(serial="")
    return list(rows.order_by("id").values_list("serial", "updated_at"))

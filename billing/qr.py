"""The QR on each connector: made at Razorpay, drawn for the sticker, closed, and polled in case a webhook was lost."""

import io
import logging
from datetime import UTC, datetime, timedelta
from xml.sax.saxutils import escape

import segno
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Q, QuerySet

from accounts import audit
from billing import payments, razorpay
from billing.models import QRCode, QRPayment, WebhookEvent
from csms.models import Connector
from voltaro import clock

log = logging.getLogger(__name__)

POLL_EVERY = timedelta(minutes=5)
# A payment may appear in Razorpay's list a little after its own time.
POLL_OVERLAP = timedelta(minutes=15)
# Money in flight when a QR closes may still arrive.
POLL_CLOSED_FOR = timedelta(days=2)
POLL_PAGES = 10
# A payment that could not be taken in is looked for again this long.
POLL_AGAIN_FOR = timedelta(days=1)
STOP_AFTER = 5


def ensure_qr(connector: Connector) -> QRCode:
    """The connector's active QR, made at Razorpay when there is none. Raises what razorpay raises.

    Razorpay has no idempotency key for QRs: when an answer is lost, the QR it made stays unprinted and so unpaid.
    """
    if found := connector.qr_codes.filter(status=QRCode.Status.ACTIVE).first():
        return found
    station = connector.charge_point.station
    name = f"{station or 'Voltaro'} {connector.code}"[:120]
    made = razorpay.create_qr(
        {
            "type": "upi_qr",
            "usage": "multiple_use",
            "fixed_amount": False,
            "name": name,
            "description": f"EV charging {connector.code}",
            "notes": {"instance": settings.INSTANCE_PREFIX, "connector": connector.code},
        }
    )
    try:
        with transaction.atomic():
            qr = QRCode.objects.create(
                connector=connector,
                razorpay_id=made["id"],
                name=name,
                image_url=str(made.get("image_url") or "")[:500],
                image_content=str(made.get("image_content") or "")[:1000],
            )
            audit.record("qr.made", qr, after={"connector": connector.code, "razorpay_id": qr.razorpay_id})
    except IntegrityError:
        # Somebody else made one meanwhile: theirs stands, ours goes.
        razorpay.close_qr(made["id"])
        return connector.qr_codes.get(status=QRCode.Status.ACTIVE)
    return qr


def close(qr: QRCode) -> QRCode:
    """Close a QR at Razorpay and here. What is still paid to it goes back."""
    try:
        said = razorpay.close_qr(qr.razorpay_id)
    except razorpay.Declined:
        said = razorpay.fetch_qr(qr.razorpay_id)
        if said.get("status") != "closed":
            raise
    return _closed(qr.pk, str(said.get("close_reason") or ""))


def hear_closed(qr_id: str) -> tuple[WebhookEvent.State, str]:
    """A QR of ours was closed by other hands (the dashboard): believe it when Razorpay says so."""
    qr = QRCode.objects.filter(razorpay_id=qr_id).first()
    if qr is None:
        return WebhookEvent.State.IGNORED, "a QR this installation does not know"
    said = razorpay.fetch_qr(qr_id)
    if said.get("status") == "closed":
        _closed(qr.pk, str(said.get("close_reason") or ""))
    return WebhookEvent.State.DONE, f"QR {said.get('status')}"[:300]


@transaction.atomic
def _closed(qr_pk: int, reason: str) -> QRCode:
    qr = QRCode.objects.select_for_update(no_key=True).get(pk=qr_pk)
    if qr.status != QRCode.Status.CLOSED:
        qr.status, qr.closed_at, qr.close_reason = QRCode.Status.CLOSED, clock.now(), reason[:40]
        qr.save(update_fields=["status", "closed_at", "close_reason"])
        audit.record("qr.closed", qr, after={"reason": reason})
    return qr


# -- the sticker ----------------------------------------------------------------------------------------------------
def image_svg(qr: QRCode) -> str | None:
    """A sticker to print, as SVG: the QR with the station's name above and the connector's code below.

    None when Razorpay gave no `image_content` (a feature of the account): then its own picture is at `qr.image_url`.
    """
    if not qr.image_content:
        return None
    code = segno.make(qr.image_content, error="m", micro=False)
    side = code.symbol_size(border=4)[0]
    modules = code.svg_inline(border=4, omitsize=True)
    connector = qr.connector
    station = str(connector.charge_point.station or "EV charging")[:40]
    text = 'text-anchor="middle" font-family="sans-serif"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 100 130" width="100mm" height="130mm" role="img">'
        f'<rect width="100" height="130" fill="#fff"/>'
        f'<text x="50" y="9" {text} font-size="{min(6, 160 / max(len(station), 1)):g}">{escape(station)}</text>'
        f'<svg x="5" y="14" width="90" height="90" viewBox="0 0 {side} {side}">{modules}</svg>'
        f'<text x="50" y="114" {text} font-size="9" font-weight="bold" letter-spacing="1">{escape(connector.code)}</text>'
        f'<text x="50" y="124" {text} font-size="4.5">Scan with any UPI app, pay any amount, charge</text>'
        f"</svg>"
    )


def image_png(qr: QRCode) -> bytes | None:
    """The bare QR as PNG; None as above."""
    if not qr.image_content:
        return None
    out = io.BytesIO()
    segno.make(qr.image_content, error="m", micro=False).save(out, kind="png", scale=12, border=4)
    return out.getvalue()


# -- the poll -------------------------------------------------------------------------------------------------------
def to_poll(now: datetime) -> QuerySet[QRCode]:
    """QRs of ours whose payments were not asked for lately."""
    open_ = Q(status=QRCode.Status.ACTIVE) | Q(closed_at__gt=now - POLL_CLOSED_FOR)
    stale = Q(last_polled_at=None) | Q(last_polled_at__lte=now - POLL_EVERY)
    return QRCode.objects.filter(open_ & stale).order_by("last_polled_at", "pk")


def poll_due(now: datetime, limit: int) -> int:
    """Ask for the payments of our QRs; what we had not heard of enters by the webhook's door. Stops when Razorpay is unwell."""
    done = failed = 0
    for qr in to_poll(now)[:limit]:
        try:
            poll(qr)
        except razorpay.Declined as no:
            log.warning("QR %s cannot be polled: %s", qr.pk, no.code)
            QRCode.objects.filter(pk=qr.pk).update(last_polled_at=now)
        except (razorpay.TryAgain, razorpay.Unknown) as error:
            # One may be this QR's own trouble, and it stays the first in line; several are Razorpay's.
            log.warning("QR %s was not polled: %s", qr.pk, type(error).__name__)
            failed += 1
            if failed >= STOP_AFTER:
                break
        except Exception:
            log.exception("QR %s was not polled", qr.pk)
            QRCode.objects.filter(pk=qr.pk).update(last_polled_at=now)
        else:
            done, failed = done + 1, 0
    return done


def poll(qr: QRCode) -> int:
    """Take in the payments of one QR since the last poll; returns how many were new.

    One that cannot be taken in yet (not captured, or our code stumbles) holds up nobody: the QR is polled from it again,
    for a day.
    """
    asked_at = clock.now()
    since = (qr.last_polled_at or qr.created_at) - POLL_OVERLAP
    seen: dict[str, int] = {}
    for page in range(POLL_PAGES):
        items = razorpay.qr_payments(qr.razorpay_id, since=int(since.timestamp()), skip=page * razorpay.PAGE)
        seen |= {str(item.get("id") or ""): item.get("created_at") for item in items}
        if len(items) < razorpay.PAGE:
            break
    known = set(QRPayment.objects.filter(razorpay_payment_id__in=seen).values_list("razorpay_payment_id", flat=True))
    new, polled_at = 0, asked_at
    for payment_id in reversed([one for one in seen if one and one not in known]):
        try:
            state, _ = payments.hear(qr.razorpay_id, payment_id, clock.now())
            new += state == WebhookEvent.State.DONE
        except payments.NotCaptured:
            polled_at = min(polled_at, _again_from(seen[payment_id], asked_at))
        except (razorpay.TryAgain, razorpay.Unknown):
            raise
        except Exception:
            log.exception("QR %s: a payment could not be taken in", qr.pk)
            polled_at = min(polled_at, _again_from(seen[payment_id], asked_at))
    if new:
        log.warning("QR %s: %s payments were heard of by polling, not by webhook", qr.pk, new)
    QRCode.objects.filter(pk=qr.pk).update(last_polled_at=polled_at)
    return new


def _again_from(created_at: object, now: datetime) -> datetime:
    """From when to poll again for a payment of that (Unix) time; after a day it is no longer waited for."""
    oldest = now - POLL_AGAIN_FOR
    at = datetime.fromtimestamp(created_at, UTC) if type(created_at) is int and created_at > 0 else oldest
    return at if at > oldest else now

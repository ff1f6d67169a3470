"""What a rider sees: one connector and what happens there now, one payment's story, their own charges.

Nothing here names a person: no phone, no UPI id, no charge point identity. Times are aware, money in paise, energy in Wh.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db.models import Q, QuerySet

from billing.models import QRPayment, Refund, Tariff
from billing.rules.payment import NOT_CHARGED
from billing.rules.tariff import price
from csms import availability, doubts, reservations
from csms.models import ChargingSession, Connector, SessionState

# A bill stays on the charger's page until somebody else pays there, an hour at most. After that: /my-charges.
SHOW_ENDED_FOR = timedelta(hours=1)
OPEN = (QRPayment.State.RECEIVED, QRPayment.State.STARTING)


@dataclass
class Story:
    """One payment as its payer may see it.

    `phase`: starting, charging, paused, billing, checked (its energy is looked at before it is billed), finished, returned, held (the
    payment waits for a person).
    """

    phase: str
    payment: QRPayment
    session: ChargingSession | None = None
    used: int = 0
    used_pct: int = 0
    rest: int = 0
    bill: Any = None
    lines: list[Any] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)

    @property
    def live(self) -> bool:
        return self.phase in ("starting", "charging", "paused")

    @property
    def reason(self) -> str:
        return reason_words(self.payment.refund_reason)


@dataclass
class Place:
    """A connector's page: `mode` is ready, busy or out (of order, offline); `story` the payment it is about, if any."""

    connector: Connector
    mode: str
    story: Story | None
    stranger: ChargingSession | None  # a session that no payment of ours is behind
    others: list[Story]
    now: datetime
    reserved_until: datetime | None = None
    # People have taken it out of service, whatever it reports.
    closed: bool = False


def place(connector: Connector, now: datetime) -> Place:
    """What happens at this connector now: at most nine queries, however long its history."""
    running = ChargingSession.objects.filter(connector=connector).exclude(state=SessionState.STOPPED).first()
    payments = list(_with_everything(QRPayment.objects.filter(connector=connector)).order_by("-id")[:5])
    main = _main(payments, running, now)
    if running is not None and main is None:
        main = next(iter(_with_everything(QRPayment.objects.filter(permit_id=running.permit_id, permit__isnull=False))), None)
    stories = tell([payment for payment in payments if payment != main and _recent(payment, now)])
    story = tell([main], running)[0] if main else None
    reserved_until = None if running is not None else reservations.kept_until(connector, now)
    closed = not availability.in_service(connector)
    return Place(
        connector=connector,
        reserved_until=reserved_until,
        closed=closed,
        mode=_mode(connector, running, story, now, kept=closed or reserved_until is not None),
        story=story,
        stranger=running if running is not None and (story is None or story.session != running) else None,
        others=[other for other in stories if other.phase == "returned"],
        now=now,
    )


def tell(payments: list[QRPayment], running: ChargingSession | None = None) -> list[Story]:
    """The stories of these payments; bill lines and refunds in two queries for all of them."""
    refunds: dict[int, list[Refund]] = {payment.pk: [] for payment in payments}
    for refund in Refund.objects.filter(payment__in=list(refunds)).order_by("id") if refunds else []:
        refunds[refund.payment_id].append(refund)
    return [_story(payment, refunds[payment.pk], running) for payment in payments]


def mine(user: Any) -> QuerySet[QRPayment]:
    """This person's own payments, newest first (an operator sees everybody's elsewhere)."""
    return _with_everything(QRPayment.objects.filter(user=user)).order_by("-id")


def find(reference: str, amount_paise: int) -> QRPayment | None:
    """The one payment with this bank reference (or Razorpay payment id) and exactly this amount; None for everything else."""
    either = Q(rrn=reference) | Q(razorpay_payment_id=reference)
    found = list(_with_everything(QRPayment.objects.filter(either, amount_paid=amount_paise))[:2])
    return found[0] if len(found) == 1 else None


def used_so_far(payment: QRPayment, session: ChargingSession) -> int:
    """What the energy so far costs with GST and the platform fee, never more than was paid; paise."""
    if session.energy_wh == 0 or not payment.tariff_snapshot:
        return 0
    wh = session.energy_wh if session.limit_wh is None else min(session.energy_wh, session.limit_wh)
    return min(payment.amount_paid, price(wh, payment.tariff_snapshot).total + payment.platform_fee)


def with_gst(tariff: Tariff) -> str:
    """The price of one kWh with GST in rupees, exactly: bills round once, the price shown does not."""
    ten_thousandths = tariff.rate_paise_per_kwh * (10_000 + tariff.gst_bp)  # of a paisa
    rupees, rest = divmod(ten_thousandths, 1_000_000)
    paise = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"₹{rupees}.{paise}"


def reason_words(reason: str) -> str:
    return NOT_CHARGED.get(reason, "charging was not possible")


def part_pct(part: int, whole: int) -> int:
    return max(0, min(100, part * 100 // whole)) if whole > 0 else 0


# -- helpers ------------------------------------------------------------------------------------------------


def _with_everything(payments: QuerySet[QRPayment]) -> QuerySet[QRPayment]:
    return payments.select_related("session", "permit", "bill__correction", "connector__charge_point__station").prefetch_related(
        "bill__lines"
    )


def _main(payments: list[QRPayment], running: ChargingSession | None, now: datetime) -> QRPayment | None:
    """The payment the page is about: of the running session, else one waiting to start, else the newest that ended just now."""
    for payment in payments:
        if running is not None and _belongs(payment, running):
            return payment
    if running is not None:
        return None
    waiting = [payment for payment in payments if payment.state in OPEN]
    if waiting:
        return waiting[0]
    return payments[0] if payments and _recent(payments[0], now) else None


def _belongs(payment: QRPayment, session: ChargingSession) -> bool:
    return payment.session_id == session.pk or (payment.permit_id is not None and payment.permit_id == session.permit_id)


def _recent(payment: QRPayment, now: datetime) -> bool:
    ended = payment.settled_at or (payment.session.ended_at if payment.session else None) or payment.heard_at
    return now - ended < SHOW_ENDED_FOR


def _story(payment: QRPayment, refunds: list[Refund], running: ChargingSession | None) -> Story:
    session = payment.session
    if session is None and running is not None and _belongs(payment, running):
        session = running
    story = Story("starting", payment, session, refunds=refunds, bill=getattr(payment, "bill", None))
    if story.bill is not None:
        story.phase, story.lines = "finished", list(story.bill.lines.all())
        story.used, story.rest = story.bill.total, story.bill.refund_due
    elif session is not None:
        story.phase = _ended(session) if not session.live else "paused" if session.state == SessionState.SUSPENDED else "charging"
        story.used = used_so_far(payment, session)
        story.rest = payment.amount_paid - story.used
    elif payment.review and payment.state != QRPayment.State.STARTING:
        story.phase = "held"
    elif payment.state not in OPEN:
        story.phase, story.rest = "returned", payment.amount_paid
    story.used_pct = part_pct(story.used, payment.amount_paid)
    return story


def _ended(session: ChargingSession) -> str:
    return "checked" if doubts.HELD in session.flags else "billing"


def _mode(connector: Connector, running: ChargingSession | None, story: Story | None, now: datetime, *, kept: bool) -> str:
    """`kept`: reserved for somebody, or taken out of service."""
    if running is not None or (story is not None and story.live):
        return "busy"
    if kept:
        return "out"
    charge_point = connector.charge_point
    heard = charge_point.last_seen is not None and now - charge_point.last_seen <= timedelta(seconds=settings.HEARTBEAT_TIMEOUT_S)
    if charge_point.blocked or not (charge_point.online or heard) or connector.status in ("Faulted", "Unavailable", "Reserved"):
        return "out"
    return "ready"

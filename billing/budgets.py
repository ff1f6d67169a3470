"""The money of a running session at hand: what was paid, at which price, how far it goes.

Kept in Redis for the pages that show the live bill; the payment's row is the truth when Redis is gone or forgot.
"""

import logging
from dataclasses import asdict, dataclass
from typing import Any

from django.core.cache import cache

from billing.models import QRPayment
from billing.rules.tariff import Price, affordable_wh, price

log = logging.getLogger(__name__)
KEEP_S = 24 * 3600


@dataclass(frozen=True)
class Budget:
    """Amounts in paise, energy in Wh. `snapshot` is the price frozen when the payment came."""

    amount_paid: int
    platform_fee: int
    snapshot: dict[str, Any]
    limit_wh: int

    def so_far(self, energy_wh: int) -> Price:
        """What the energy so far costs; never more than the money reaches."""
        return price(min(energy_wh, self.limit_wh), self.snapshot)

    def left(self, energy_wh: int) -> int:
        """Paise that would go back if the session ended now."""
        return self.amount_paid - (self.platform_fee + self.so_far(energy_wh).total if energy_wh else 0)


def put(session_id: int, payment: QRPayment) -> Budget:
    """Remember the budget of a session. Never raises: without Redis it is read from the row."""
    budget = _of(payment)
    try:
        cache.set(_key(session_id), asdict(budget), KEEP_S)
    except Exception as error:
        log.warning("budget not cached (%s)", type(error).__name__)
    return budget


def get(session_id: int) -> Budget | None:
    """The budget of a session; None when nobody paid for it through a QR."""
    try:
        if kept := cache.get(_key(session_id)):
            return Budget(**kept)
    except Exception as error:
        log.warning("budget not read from the cache (%s)", type(error).__name__)
    payment = QRPayment.objects.filter(session=session_id).first() or QRPayment.objects.filter(permit__sessions=session_id).first()
    return put(session_id, payment) if payment and payment.tariff_snapshot else None


def forget(session_id: int) -> None:
    """The session is billed: nobody asks for its budget any more. Never raises."""
    try:
        cache.delete(_key(session_id))
    except Exception as error:
        log.warning("budget not taken out of the cache (%s)", type(error).__name__)


def _of(payment: QRPayment) -> Budget:
    limit_wh = affordable_wh(payment.amount_paid - payment.platform_fee, payment.tariff_snapshot)
    return Budget(payment.amount_paid, payment.platform_fee, payment.tariff_snapshot, limit_wh)


def _key(session_id: int) -> str:
    return f"budget:session:{session_id}"

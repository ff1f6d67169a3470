"""Money: what it costs, who paid, what goes back, and the books. All amounts are whole paise."""

from billing.models.bill import Bill, BillCorrection, BillLine, Invoice
from billing.models.ledger import Account, JournalEntry, Posting
from billing.models.payment import QRCode, QRPayment, Refund, Wallet
from billing.models.reconciliation import Difference, ReconciledDay
from billing.models.tariff import Tariff
from billing.models.webhook import WebhookEvent

__all__ = [
    "Account",
    "Bill",
    "BillCorrection",
    "BillLine",
    "Difference",
    "Invoice",
    "JournalEntry",
    "Posting",
    "QRCode",
    "QRPayment",
    "ReconciledDay",
    "Refund",
    "Tariff",
    "Wallet",
    "WebhookEvent",
]

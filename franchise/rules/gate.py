"""Why a franchisee's money waits: the gates between a share and its payout, and what to call them."""

from datetime import datetime

TRANSFERS_OFF = "transfers_off"
HELD = "held"
NO_ACCOUNT = "no_account"
NOT_ACTIVATED = "not_activated"
COOLING = "cooling"
NO_CONTRACT = "no_contract"
FEE_UNKNOWN = "fee_unknown"

# Code -> what a franchisee and an operator read.
REASONS: dict[str, str] = {
    TRANSFERS_OFF: "Payouts are switched off for the whole network at the moment",
    HELD: "The operator has put your payouts on hold",
    NO_ACCOUNT: "No bank account is linked yet",
    NOT_ACTIVATED: "Razorpay has not yet activated the linked account",
    COOLING: "The linked account is new; transfers start 24 hours after it was linked",
    NO_CONTRACT: "No contract was in force when the session started",
    FEE_UNKNOWN: "Razorpay has not yet said what it charged for this payment",
}


def closed(*, transfers_on: bool, held: bool, account_status: str | None, usable_from: datetime | None, now: datetime) -> str:
    """The first closed gate between a franchisee and their money, as a code of REASONS; "" when all are open.

    `account_status` is Razorpay's activation_status of the linked account, None when there is none.
    """
    if held:
        return HELD
    if account_status is None:
        return NO_ACCOUNT
    if account_status != "activated":
        return NOT_ACTIVATED
    if usable_from is not None and usable_from > now:
        return COOLING
    return "" if transfers_on else TRANSFERS_OFF

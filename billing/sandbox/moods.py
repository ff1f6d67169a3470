"""Bad days on request: what the next calls, and all webhooks, shall suffer.

`next_*` is one mood or a list of them; each is used up by one call. The others stay until they are changed.
"""

from billing.sandbox.store import Store

# Before the deed: nothing happened.
BEFORE = ("500", "429", "html502", "timeout_before_commit")
# After the deed: it happened, the caller does not hear so.
AFTER = ("timeout_after_commit", "500_after_commit", "html502_after_commit")
WIRE = (*BEFORE, *AFTER)
MONEY = (*WIRE, "409_in_progress", "insufficient_balance", "pending_then_failed", "stays_pending")

NEXT = {
    "next_call": WIRE,  # any call to the API
    "next_qr": WIRE,  # creating or closing a QR
    "next_refund": (*MONEY, "speed_changed", "400_in_progress", "no_instant"),
    "next_transfer": (*MONEY, "pending_then_processed"),
    "next_activation": ("needs_clarification", "stays_under_review"),
}
LASTING = {
    "payment_fee": None,  # None: by the payer's account; "null"; "null_then_known"; or a number of paise
    "payment_bare": False,  # no upi block, no rrn, no vpa, no contact
    "late_payments": False,  # money still arrives on a closed QR
    "features_off": [],  # of: qr, image_content, route, direct_transfer
    "cooling_s": 0,  # a new linked account refuses transfers so long (documented: 24 h)
    "hold_s": 0.2,  # how long a timeout keeps the line open before it drops it
    "webhook_duplicates": 0,  # further copies of every event
    "webhook_reorder_s": 0,  # each event waits a random part of this
    "webhook_delay_s": 0,  # each event waits this
    "webhook_drop": [],  # events that are never sent: names, or "*"
    "webhook_secret": "current",  # current, old or wrong
    "webhook_disabled": False,  # set after 24 h of failures; nothing is sent until it is lifted
}
FEATURES = ("qr", "image_content", "route", "direct_transfer")


class BadMood(ValueError):
    """No such mood."""


class Moods:
    """Attributes to set and read: `sandbox.moods.next_refund = "500"`. Kept in the store, so they outlive the process."""

    def __init__(self, store: Store):
        object.__setattr__(self, "_store", store)

    def __getattr__(self, name: str) -> object:
        if name in NEXT:
            return self._kept().get(name, [])
        if name in LASTING:
            return self._kept().get(name, LASTING[name])
        raise AttributeError(name)

    def __setattr__(self, name: str, value: object) -> None:
        self.set(**{name: value})

    def set(self, **moods: object) -> None:
        checked = {name: _checked(name, value) for name, value in moods.items()}
        with self._store.transaction():
            self._store.set_fact("moods", {**self._kept(), **checked})

    def clear(self) -> None:
        self._store.set_fact("moods", {})

    def all(self) -> dict:
        return {name: getattr(self, name) for name in (*NEXT, *LASTING)}

    def take(self, *names: str) -> str | None:
        """The next mood of the first of these names that has one; it is used up."""
        with self._store.transaction():
            kept = self._kept()
            for name in names:
                if waiting := kept.get(name):
                    self._store.set_fact("moods", {**kept, name: waiting[1:]})
                    return waiting[0]
        return None

    def _kept(self) -> dict:
        return self._store.fact("moods") or {}


def _checked(name: str, value: object) -> object:
    if name in NEXT:
        wanted = [] if value is None else [value] if isinstance(value, str | int) else list(value)
        wanted = [str(mood) for mood in wanted]
        if strange := [mood for mood in wanted if mood not in NEXT[name]]:
            raise BadMood(f"{name}: no mood {strange[0]!r}; there are: {', '.join(NEXT[name])}")
        return wanted
    if name not in LASTING:
        raise BadMood(f"no mood {name!r}; there are: {', '.join((*NEXT, *LASTING))}")
    if name in ("webhook_drop", "features_off"):
        wanted = [value] if isinstance(value, str) else list(value or [])
        if name == "features_off" and (strange := [item for item in wanted if item not in FEATURES]):
            raise BadMood(f"features_off: no feature {strange[0]!r}; there are: {', '.join(FEATURES)}")
        return wanted
    if name == "webhook_secret":
        if value not in ("current", "old", "wrong"):
            raise BadMood("webhook_secret is current, old or wrong")
        return value
    if name == "payment_fee":
        number = isinstance(value, int) and not isinstance(value, bool) and value >= 0
        if not (number or value in (None, "null", "null_then_known")):
            raise BadMood("payment_fee is null_then_known, null, None or a number of paise")
        return value
    if isinstance(LASTING[name], bool):
        return bool(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        raise BadMood(f"{name} is a number, 0 or more")
    return value

"""What a sandbox is told at its start. Times in seconds, money in paise."""

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Rs 10,00,000: enough for every refund and transfer of a demo, small enough to be emptied on purpose.
OPENING_BALANCE = 10_00_000_00


@dataclass
class Options:
    host: str = "127.0.0.1"
    port: int = 8100  # 0: any free one
    db: str = ":memory:"
    key_id: str = "rzp_test_sandbox00000000"
    key_secret: str = "sandbox-key-secret"  # noqa: S105 opens nothing real
    webhook_url: str = ""  # empty: events are kept, nobody is told
    # current[,previous]: the previous one signs only in the mood webhook_secret="old".
    webhook_secret: str = "sandbox-webhook-secret"  # noqa: S105
    public_url: str = ""
    rider_url_template: str = ""
    auto_accounts: bool = True
    opening_balance: int = OPENING_BALANCE
    refund_delay_s: float = 2.0
    transfer_delay_s: float = 1.0
    activation_delay_s: float = 3.0
    settle_after_s: float | None = 120.0  # None: only when asked to
    retry_scale: float = 1.0  # 0.001 makes the 24 hours of webhook retries last 86 seconds
    seed: int | None = None
    background: bool = True  # False: nothing moves until .work() is called (one virtual clock)
    now: Callable[[], float] = field(default=time.time)

    @property
    def secrets(self) -> list[str]:
        return [s.strip() for s in self.webhook_secret.split(",") if s.strip()]


def loopback(host: str) -> bool:
    """True for this machine only: 127.0.0.0/8, ::1 and the name localhost."""
    host = host.strip("[]")
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False

"""What a charger wants of the world beside its socket: a file fetched, a file stored.

The charger only writes the order (`Charger.take_orders`); whoever has a network carries it out and tells the outcome
(`Charger.carried_out`).
"""

from dataclasses import dataclass

# A firmware larger than this fits into no charger.
MOST_BYTES = 64 * 1024 * 1024
HEAD_BYTES = 4_096


@dataclass(frozen=True, eq=False)
class Download:
    url: str


@dataclass(frozen=True, eq=False)
class Upload:
    url: str
    body: bytes


@dataclass(frozen=True)
class Fetched:
    """A file that came: its beginning, its digest and its size; the rest is not kept."""

    head: bytes
    sha256: bytes
    size: int


@dataclass(frozen=True)
class Stored:
    pass


@dataclass(frozen=True)
class Failed:
    """`status` is LogStatusNotification's word for it (security white paper, UploadLogStatusEnumType)."""

    why: str
    status: str = "UploadFailure"


Order = Download | Upload
Outcome = Fetched | Stored | Failed

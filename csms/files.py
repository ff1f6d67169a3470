"""The addresses chargers fetch firmware from and send files to, and what is kept of what they send.

An address is a name of three parts, `<row>.<expiry>.<signature>`: no query string, no account, short (chargers limit what they
can hold). Whoever has the name may use it until it expires, or until its row is over; nothing can be listed or guessed.
What a charger sends is stored under a random name and never looked into (issue: size, age and number are bounded).
"""

import hashlib
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit, urlunsplit

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.core.signing import Signer
from django.utils.crypto import constant_time_compare

from voltaro import clock

FIRMWARE, UPLOADS, CONSOLE = "firmware", "uploads", "console"
CHUNK_BYTES = 64 * 1024
# 144 bits of the signature: the whole would make addresses that some chargers cut off.
SIGNATURE_LENGTH = 24
_NAME = re.compile(rf"([0-9a-z]{{1,13}})\.([0-9a-z]{{1,8}})\.([A-Za-z0-9_-]{{{SIGNATURE_LENGTH}}})")
_EXTENSION = re.compile(r"(\.[a-z0-9]{1,8}){1,2}$")
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
# A disk that is full stops more than uploads.
MIN_FREE_BYTES = 512 * 1024 * 1024


# -- addresses ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Named:
    """A name whose signature is good: the row it speaks of, and until when."""

    pk: int
    expires_at: datetime
    rest: str = ""  # what a charger appended: the name of its file


def name_of(kind: str, pk: int, expires_at: datetime) -> str:
    """The signed name for this row, good until `expires_at` (to the minute, rounded up)."""
    minutes = -(-int(expires_at.timestamp()) // 60)
    told = f"{_base36(pk)}.{_base36(minutes)}"
    return f"{told}.{_signature(kind, told)}"


def read_name(kind: str, text: str) -> Named | None:
    """Who is meant by a name; None when its signature is not ours. Whether it has expired is for the caller to see."""
    match = _NAME.match(text)
    if match is None or not constant_time_compare(match[3], _signature(kind, f"{match[1]}.{match[2]}")):
        return None
    return Named(int(match[1], 36), datetime.fromtimestamp(int(match[2], 36) * 60, UTC), text[match.end() :])


def url(kind: str, name: str, scheme: str = "") -> str:
    """The whole address. `scheme` http or https: for chargers that know only one (habits: file_scheme)."""
    base = urlsplit(settings.CHARGER_FILES_URL)
    if scheme and scheme != base.scheme:
        base = base._replace(scheme=scheme, netloc=base.hostname or "")  # a port belongs to its scheme
    return urlunsplit(base) + f"/{kind}/{name}"


def extension(file_name: str) -> str:
    """`.tar.gz` of a file's name, "" when it has none we would repeat: chargers tell by it how to unpack."""
    match = _EXTENSION.search(Path(file_name).name.lower())
    return match[0] if match else ""


# Where large bodies may come in. Nobody else's get as far as the disk.
_UPLOAD = re.compile(r"/+uploads/+")
_ADD_IMAGE = re.compile(r"/console/firmware/add/")


def most_bytes(path: str) -> int:
    """How much may be sent to this path beyond what any form may have: 0 but for the addresses we made ourselves. No database.

    Asked before a body is let in, so that no stranger fills the disk.
    """
    for pattern, kind, most in ((_UPLOAD, UPLOADS, settings.MAX_UPLOAD_BYTES), (_ADD_IMAGE, CONSOLE, settings.MAX_FIRMWARE_BYTES)):
        if match := pattern.match(path):
            named = read_name(kind, path[match.end() :])
            return most if named is not None and clock.now() < named.expires_at else 0
    return 0


def _signature(kind: str, told: str) -> str:
    return Signer(salt=f"csms.files.{kind}").signature(told)[:SIGNATURE_LENGTH]


def _base36(number: int) -> str:
    out = ""
    while number:
        number, digit = divmod(number, 36)
        out = _DIGITS[digit] + out
    return out or "0"


# -- what is kept ---------------------------------------------------------------------------------------------------
class TooLarge(Exception):
    """More than may be kept."""


class NoRoom(Exception):
    """The disk has no room to spare."""


@dataclass(frozen=True)
class Stored:
    """A file as it lies in the storage."""

    name: str
    size_bytes: int
    sha256: str


class _Counted(File):
    """A stream on its way into the storage: counted, digested, and broken off beyond `most` bytes."""

    def __init__(self, stream: Any, most: int) -> None:
        super().__init__(stream, name="stream")
        self.most, self.size_bytes, self.digest = most, 0, hashlib.sha256()

    def chunks(self, chunk_size: int | None = None) -> Iterator[bytes]:
        while chunk := self.file.read(CHUNK_BYTES):
            self.size_bytes += len(chunk)
            if self.size_bytes > self.most:
                raise TooLarge
            self.digest.update(chunk)
            yield chunk


def store(stream: BinaryIO | Any, folder: str, most: int, suffix: str = "") -> Stored:
    """Keep what this stream brings, under a random name. Raises TooLarge beyond `most` bytes, NoRoom on a full disk."""
    if free_bytes() < MIN_FREE_BYTES + most:
        raise NoRoom
    wanted = f"{folder}/{secrets.token_hex(16)}{suffix}"
    counted = _Counted(stream, most)
    try:
        name = default_storage.save(wanted, counted)
    except BaseException:
        default_storage.delete(wanted)
        raise
    return Stored(name, counted.size_bytes, counted.digest.hexdigest())


def free_bytes() -> int:
    """What the disk of MEDIA_ROOT has left."""
    folder = Path(settings.MEDIA_ROOT)
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return shutil.disk_usage(folder).free


def strays(folder: str, kept: set[str], before: datetime) -> list[str]:
    """What lies in this folder since before then and is no row's: a process was killed while it wrote."""
    try:
        _, found = default_storage.listdir(folder)
    except FileNotFoundError:
        return []
    names = (f"{folder}/{name}" for name in found)
    return [name for name in names if name not in kept and default_storage.get_modified_time(name) < before]


def delete(name: str) -> None:
    """Forget a stored file; one that is gone already is gone."""
    if name:
        default_storage.delete(name)

"""An external authorizer: asked over HTTP about tags that our own database does not know (AUTHORIZER_URL).

`POST {"idTag", "chargePoint", "connector"}` is answered `{"status", "parentIdTag"?, "expiryDate"?}`. The answer becomes the tag's
row (source external), and that row is what chargers are answered from (csms/tags.py). It is asked before the transaction,
never inside one, and never for longer than AUTHORIZER_TIMEOUT_S; after FAILURES failures nobody asks for REST_S: a dead
authorizer costs nothing. While it is away the old answers hold, and a worker asks again, with more patience.
"""

import json
import logging
import os
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import httpx
from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet

from accounts import audit
from csms import tags, timestamps
from csms.models import ChargePoint, IdTag
from csms.rules import tag as rule
from csms.rules.habits import Habits
from voltaro.jobs import ring

log = logging.getLogger(__name__)
# In a row: then it is left alone for so long, and one question tries it.
FAILURES, REST_S = 3, 30.0
# The worker's patience: nobody waits for it.
PATIENCE_S = 10.0
ASK_AGAIN_S = 60
# A tag without any answer for so long is asked for when it is next shown, not by the worker.
GIVE_UP_S = 24 * 3600
# "Concurrent" is true of a moment, not of a card.
MOMENT_S = 5
LARGEST_BYTES = 16_384


class Away(Exception):
    """It did not answer in time, or nothing that can be understood."""


@dataclass(frozen=True)
class Answer:
    """What it says of a tag: one of the standard's statuses."""

    status: str
    parent: str = ""
    expires_at: datetime | None = None


def on() -> bool:
    """Whether there is one."""
    return bool(settings.AUTHORIZER_URL)


def consult(tag: str, charge_point_pk: int, cp_id: str, connector_no: int | None, habits: Habits, now: datetime) -> None:
    """Have the row of this tag say what the authorizer says, when it is asked at all. Call outside of any transaction.

    Asked for tags we have no row of, and for its own when their answer is older than AUTHORIZER_CACHE_S.
    """
    wanted = rule.readings(tag, habits.id_tag_form)
    if not on() or not wanted or rule.normal(tag) == rule.normal(habits.anonymous_tag):
        return
    row = tags.find(tag, habits)
    if row is not None and not stale(row, now):
        return
    asked = row.tag if row is not None else wanted[0]
    try:
        answer = ask(asked, cp_id, connector_no)
    except Away:
        later(asked, charge_point_pk, now)
    else:
        store(asked, answer, charge_point_pk, now)


def stale(row: IdTag, now: datetime) -> bool:
    """Whether the authorizer's last word on this tag is too old; never so for a tag of our own."""
    if row.source != "external" or row.state == IdTag.State.BLOCKED:
        return False
    holds_s = MOMENT_S if row.external_status == "ConcurrentTx" else settings.AUTHORIZER_CACHE_S
    return row.checked_at is None or now - row.checked_at > timedelta(seconds=holds_s)


@transaction.atomic
def store(tag: str, answer: Answer, charge_point_pk: int | None, now: datetime) -> IdTag:
    """Its answer, on the tag's row. A tag that has become our own meanwhile stays as it is."""
    row = _row(tag, charge_point_pk)
    if row.source != "external":
        return row
    before = row.external_status
    row.external_status, row.parent, row.expires_at = answer.status, answer.parent, answer.expires_at
    row.checked_at, row.refresh_at = now, None
    row.save(update_fields=["external_status", "parent", "expires_at", "checked_at", "refresh_at"])
    if before != answer.status:
        audit.record("tag.answered", row, trigger="authorizer", before={"status": before}, after={"status": answer.status})
    return row


@transaction.atomic
def later(tag: str, charge_point_pk: int | None, now: datetime) -> None:
    """It is away: what it last said holds, and the worker asks again."""
    row = _row(tag, charge_point_pk)
    if row.source == "external" and row.refresh_at is None:
        row.refresh_at = now
        row.save(update_fields=["refresh_at"])
        ring("tag.refresh")


def _row(tag: str, charge_point_pk: int | None) -> IdTag:
    """The tag's row, locked. A new one belongs to the network that runs the charger where it was shown."""
    company = None
    if charge_point_pk is not None and not IdTag.objects.filter(tag=tag).exists():
        owner = ChargePoint.objects.select_related("company").get(pk=charge_point_pk).company
        company = owner.parent_id or owner.pk
    defaults = {"source": "external", "company_id": company}
    row, _ = IdTag.objects.select_for_update(no_key=True, of=("self",)).get_or_create(tag=tag, defaults=defaults)
    return row


# -- the worker -------------------------------------------------------------------------------------------------------
def to_refresh(now: datetime) -> QuerySet[IdTag]:
    """Tags about which it did not answer."""
    return IdTag.objects.filter(refresh_at__lte=now).order_by("refresh_at")


def refresh_due(now: datetime, limit: int) -> int:
    """Ask again, one after the other, until it does not answer: then the rest waits."""
    done = 0
    for row in list(to_refresh(now)[:limit]):
        waited_s = (now - (row.checked_at or row.created_at)).total_seconds()
        if not on() or (row.checked_at is None and waited_s > GIVE_UP_S):
            IdTag.objects.filter(pk=row.pk).update(refresh_at=None)
            continue
        try:
            answer = ask(row.tag, "", None, patience_s=PATIENCE_S)
        except Away:
            IdTag.objects.filter(refresh_at__lte=now).update(refresh_at=now + timedelta(seconds=ASK_AGAIN_S))
            break
        store(row.tag, answer, None, now)
        done += 1
    return done


# -- over HTTP ----------------------------------------------------------------------------------------------------------
class Breaker:
    """Counts failures in a row; open, it lets one question through every `rest_s`. Safe across threads."""

    def __init__(self, failures: int, rest_s: float) -> None:
        self.most, self.rest_s = failures, rest_s
        self._lock = threading.Lock()
        self._failed, self._until = 0, 0.0

    def may_ask(self) -> bool:
        with self._lock:
            if self._failed < self.most:
                return True
            if time.monotonic() < self._until:
                return False
            self._until = time.monotonic() + self.rest_s  # this one tries it; the others wait for what becomes of it
            return True

    def answered(self) -> None:
        with self._lock:
            self._failed = 0

    def failed(self) -> None:
        with self._lock:
            self._failed += 1
            if self._failed >= self.most:
                self._until = time.monotonic() + self.rest_s


breaker = Breaker(FAILURES, REST_S)
_made: dict[str, Any] = {}
_making = threading.Lock()


def ask(tag: str, cp_id: str, connector_no: int | None, *, patience_s: float | None = None) -> Answer:
    """Ask it, for AUTHORIZER_TIMEOUT_S at most (or `patience_s`). Raises Away."""
    if not breaker.may_ask():
        raise Away("left alone for a while")
    patience_s = patience_s or float(settings.AUTHORIZER_TIMEOUT_S)
    body = {"idTag": tag, "chargePoint": cp_id, "connector": connector_no}
    # In a thread of its own: a timeout of HTTP counts from byte to byte, and finding an address has none at all.
    future: Future[Answer] = _pool().submit(_post, body, time.monotonic() + patience_s)
    try:
        answer = future.result(timeout=patience_s)
    except Exception as error:
        future.cancel()
        breaker.failed()
        log.warning("the external authorizer did not answer (%s)", _why(error))
        raise Away(_why(error)) from None
    breaker.answered()
    return answer


def _post(body: dict[str, Any], deadline: float) -> Answer:
    left_s = deadline - time.monotonic()
    if left_s <= 0:
        raise Away("waited too long for its turn")
    headers = {"Authorization": f"Bearer {settings.AUTHORIZER_TOKEN}"} if settings.AUTHORIZER_TOKEN else {}
    said = bytearray()
    with _client().stream("POST", settings.AUTHORIZER_URL, json=body, headers=headers, timeout=httpx.Timeout(left_s)) as response:
        if response.status_code != 200:
            raise Away(f"status {response.status_code}")
        for piece in response.iter_bytes():
            said += piece
            if len(said) > LARGEST_BYTES or time.monotonic() > deadline:
                raise Away("too much, or too slow")
    return read(bytes(said))


def read(said: bytes) -> Answer:
    """Its words. Raises Away for what is none of the standard's answers."""
    try:
        told = json.loads(said)
    except (ValueError, RecursionError):
        raise Away("not JSON") from None
    known = {status.casefold(): status for status in rule.STATUSES}
    status = told.get("status") if isinstance(told, dict) else None
    if not isinstance(status, str) or status.casefold() not in known:
        raise Away("no status of the standard")
    parent, expires = told.get("parentIdTag"), told.get("expiryDate")
    return Answer(
        known[status.casefold()],
        rule.normal(parent) if isinstance(parent, str) else "",
        timestamps.read(expires) if isinstance(expires, str) else None,
    )


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, Away) else type(error).__name__


def _pool() -> ThreadPoolExecutor:
    return _one("pool", lambda: ThreadPoolExecutor(8, thread_name_prefix="authorizer"))


def _client() -> httpx.Client:
    return _one("client", lambda: httpx.Client(follow_redirects=False, trust_env=False, headers={"User-Agent": "voltaro"}))


def _one(name: str, make: Any) -> Any:
    """Made once in a process (a forked worker makes its own)."""
    key = f"{name} {os.getpid()}"
    with _making:
        if key not in _made:
            _made[key] = make()
        return _made[key]

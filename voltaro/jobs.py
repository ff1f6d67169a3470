"""Rows as a queue: the database holds what is due, a bell only makes a worker look sooner.

A worker is a function `work_due(now, limit) -> int` that claims due rows and returns how many it worked on. The one
table of workers, with their beats and bells, is `voltaro/celery.py`. A lost bell costs one beat, never a rupee.
"""

import atexit
import logging
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any

from django.db import connection, transaction
from django.db.models import QuerySet

log = logging.getLogger(__name__)


def ring(bell: str) -> None:
    """After this transaction commits, wake the workers that listen for `bell` (see voltaro/celery.py).

    Never raises: with the broker gone the bell is lost and the beat finds the row.
    """
    if not connection.in_atomic_block:
        _send(bell)
    elif not any(getattr(hook, "bell", None) == bell for _, hook, *_ in connection.run_on_commit):

        def hook() -> None:
            _send(bell)

        hook.bell = bell  # one bell a transaction, however often it was rung
        transaction.on_commit(hook)


# -- the sender ---------------------------------------------------------------------------------------------------------
# Without Redis, a send takes two seconds to fail, and five when Redis hangs. Whoever rings is in the middle of answering a
# charger or Razorpay, so bells are sent by a thread of their own; one that already waits to be sent is not added again.
_waiting: dict[str, None] = {}
_sending: set[str] = set()
_changed = threading.Condition()
_sender: threading.Thread | None = None


def _send(bell: str) -> None:
    global _sender
    with _changed:
        _waiting[bell] = None
        if _sender is None:
            _sender = threading.Thread(target=_send_forever, name="bells", daemon=True)
            _sender.start()
        _changed.notify_all()


def _send_forever() -> None:
    while True:
        with _changed:
            while not _waiting:
                _sending.clear()
                _changed.notify_all()
                _changed.wait()
            bell = next(iter(_waiting))
            del _waiting[bell]
            _sending.add(bell)
        _tell_broker(bell)


def _tell_broker(bell: str) -> None:
    from celery import current_app

    try:
        current_app.send_task("voltaro.bell", args=[bell], ignore_result=True, retry=False, expires=60)
    except Exception as error:
        log.warning("bell %s was lost (%s); the beat will find the row", bell, type(error).__name__)


def waiting() -> int:
    """How many bells wait to be sent."""
    with _changed:
        return len(_waiting)


def flush(within_s: float) -> bool:
    """Wait until every bell was sent or lost, at most `within_s`; False when some still wait."""
    with _changed:
        return _changed.wait_for(lambda: not _waiting and not _sending, within_s)


def _forget() -> None:
    """In a forked process: the sender stayed with the parent, and so do the bells."""
    global _changed, _sender
    _changed, _sender = threading.Condition(), None
    _waiting.clear()
    _sending.clear()


os.register_at_fork(after_in_child=_forget)
# A command that rings and ends lets its bells out first.
atexit.register(flush, 2)


# -- the rows -----------------------------------------------------------------------------------------------------------
def each(keys: Iterable[int], deed: Callable[[int], Any], what: str) -> int:
    """Do `deed` to each of the rows and count what it says was done.

    A row that our code stumbles over is logged and stays due; it holds up nobody behind it.
    """
    done = 0
    for key in keys:
        try:
            done += int(deed(key))
        except Exception:
            log.exception("%s %s: could not be worked on", what, key)
    return done


def claim(rows: QuerySet, limit: int, **fields: Any) -> list:
    """Claim up to `limit` of `rows` for this worker: lock, skipping locked ones, set `fields`, commit, return them.

    The claim (a lease such as `claimed_until`, or a state) is committed before the caller acts, so that no call
    to the outside happens under a row lock.
    """
    with transaction.atomic():
        claimed = list(rows.select_for_update(skip_locked=True, of=("self",))[:limit])
        for row in claimed:
            for name, value in fields.items():
                setattr(row, name, value)
            row.save(update_fields=list(fields))
    return claimed

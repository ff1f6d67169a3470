"""Rows as a queue: the database holds what is due, a bell only makes a worker look sooner.

A worker is a function `work_due(now, limit) -> int` that claims due rows and returns how many it worked on. The one
table of workers, with their beats and bells, is `voltaro/celery.py`. A lost bell costs one beat, never a rupee.
"""

import logging
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


def _send(bell: str) -> None:
    from celery import current_app

    try:
        current_app.send_task("voltaro.bell", args=[bell], ignore_result=True, retry=False, expires=60)
    except Exception as error:
        log.warning("bell %s was lost (%s); the beat will find the row", bell, type(error).__name__)


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

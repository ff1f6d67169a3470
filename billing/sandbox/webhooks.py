"""Webhooks: events are written into a durable queue with the deed itself, signed, sent, and sent again for 24 hours.

The body is stored as the bytes that will be sent, signed with the secret of that hour: an event made before a
rotation stays signed with the old secret, however often it is sent again.
"""

import hashlib
import hmac
import http.client
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

from billing.sandbox.world import World

log = logging.getLogger("billing.sandbox")

TIMEOUT_S = 5
GIVE_UP_S = 24 * 3600
FIRST_RETRY_S, LONGEST_RETRY_S = 10, 3600


def send(world: World, event: str, entities: dict[str, dict], *, account_id: str | None = None, beside: dict | None = None) -> None:
    """Queue an event inside the caller's transaction. `entities` by name; `beside` lies next to the entity (requirements)."""
    at = world.now()
    body = {
        "entity": "event",
        "account_id": account_id or world.merchant,
        "event": event,
        "contains": list(entities),
        "payload": {name: {"entity": entity, **(beside or {})} for name, entity in entities.items()},
        "created_at": at,
    }
    raw = json.dumps(body, separators=(",", ":")).replace("/", "\\/").encode()
    moods = world.moods
    dropped = event in moods.webhook_drop or "*" in moods.webhook_drop
    state = "dropped" if dropped else "disabled" if moods.webhook_disabled else "waiting" if world.options.webhook_url else "kept"
    event_id, signature = world.word(14), hmac.new(_secret(world), raw, hashlib.sha256).hexdigest()
    for _ in range(1 + int(moods.webhook_duplicates)):
        due = world.time() + moods.webhook_delay_s + world.dice.random() * moods.webhook_reorder_s
        sql = "INSERT INTO deliveries (event_id, event, body, signature, created_at, due_at, state) VALUES (?, ?, ?, ?, ?, ?, ?)"
        world.store.run(sql, event_id, event, raw, signature, world.time(), due, state)
    world.wake.set()


def deliver_due(world: World, pool: ThreadPoolExecutor | None = None) -> int:
    """Send what is due, each event at most once a call. With a pool: sent side by side, and the call does not wait."""
    with world.store.transaction():
        sql = "SELECT seq, event_id, event, body, signature, attempts, created_at FROM deliveries WHERE state = 'waiting' AND due_at <= ?"
        found = world.store.rows(sql + " ORDER BY due_at, seq LIMIT 50", world.time())
        for row in found:
            world.store.run("UPDATE deliveries SET state = 'sending' WHERE seq = ?", row["seq"])
    for row in found:
        if pool:
            pool.submit(_deliver, world, row)
        else:
            _deliver(world, row)
    return len(found)


def recover(world: World) -> None:
    """What was being sent when the process ended is sent again: at least once, never at most once."""
    world.store.run("UPDATE deliveries SET state = 'waiting' WHERE state = 'sending'")


def _deliver(world: World, row) -> None:
    try:
        status = _post(world.options.webhook_url, row["body"], row["signature"], row["event_id"])
        ok, answer = 200 <= status < 300, str(status)
    except (OSError, http.client.HTTPException) as error:
        ok, answer = False, type(error).__name__
    try:
        _note(world, row, ok, answer)
    except Exception:
        # In a pool nobody reads the exception; the row stays 'sending' and is recovered at the next start.
        log.exception("webhook %s: its result could not be kept", row["event"])


def _note(world: World, row, ok: bool, answer: str) -> None:
    scale, attempts, now = world.options.retry_scale, row["attempts"] + 1, world.time()
    wait = scale * min(FIRST_RETRY_S * 2 ** min(attempts - 1, 20), LONGEST_RETRY_S)
    state = "delivered" if ok else "waiting"
    with world.store.transaction():
        if not ok and now + wait > row["created_at"] + scale * GIVE_UP_S:
            state = "given_up"
            world.moods.webhook_disabled = True
        sql = "UPDATE deliveries SET state = ?, attempts = ?, answer = ?, due_at = ? WHERE seq = ?"
        world.store.run(sql, state, attempts, answer, now + wait, row["seq"])
    log.log(logging.INFO if ok else logging.WARNING, "webhook %s: %s, attempt %s", row["event"], answer, attempts)


def _post(url: str, raw: bytes, signature: str, event_id: str) -> int:
    to = urlsplit(url)
    kind = http.client.HTTPSConnection if to.scheme == "https" else http.client.HTTPConnection
    connection = kind(to.hostname, to.port, timeout=TIMEOUT_S)
    try:
        headers = {"Content-Type": "application/json", "X-Razorpay-Signature": signature, "x-razorpay-event-id": event_id}
        connection.request("POST", (to.path or "/") + (f"?{to.query}" if to.query else ""), body=raw, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _secret(world: World) -> bytes:
    known, which = world.options.secrets, world.moods.webhook_secret
    if which == "wrong" or not known:
        return b"a secret nobody shares"
    if which == "old":
        return (known[1] if len(known) > 1 else "an older secret").encode()
    return known[0].encode()

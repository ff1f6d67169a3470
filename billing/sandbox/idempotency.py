"""The same key and the same body: the same answer. Razorpay tells the two conflicts apart by their text only."""

import hashlib
import json
from collections.abc import Callable

from billing.sandbox.errors import ApiError
from billing.sandbox.world import Request, World

IN_PROGRESS = "Another request with the same idempotency key is still in progress."
DIFFERENT = "Different request with the same idempotency key has already been processed."


def once(world: World, scope: str, key: str | None, request: Request, work: Callable[[], dict], *, different: int) -> dict:
    """Do `work` once per key. `different`: the status for another body under the same key. A refusal frees the key."""
    if key is None:
        with world.store.transaction():
            return work()
    fingerprint = hashlib.sha256(f"{request.path}\n{json.dumps(request.body, sort_keys=True)}".encode()).hexdigest()
    with world.store.transaction():
        earlier = world.store.rows("SELECT fingerprint, answer FROM keys WHERE scope = ? AND key = ?", scope, key)
        if not earlier:
            world.store.run("INSERT INTO keys (scope, key, fingerprint) VALUES (?, ?, ?)", scope, key, fingerprint)
    if earlier:
        if earlier[0]["fingerprint"] != fingerprint:
            raise ApiError(DIFFERENT, status=different)
        if earlier[0]["answer"] is None:
            raise in_progress()
        return json.loads(earlier[0]["answer"])
    try:
        with world.store.transaction():
            answer = work()
            world.store.run("UPDATE keys SET answer = ? WHERE scope = ? AND key = ?", json.dumps(answer), scope, key)
    except BaseException:
        world.store.run("DELETE FROM keys WHERE scope = ? AND key = ?", scope, key)
        raise
    return answer


def in_progress() -> ApiError:
    return ApiError(IN_PROGRESS, status=409)

"""200,000 generated and bent frames through the pure part of the pipeline: nothing raises, and what is due is a short reply."""

import json
import os
from datetime import UTC, datetime

import pytest

from csms import frames, ocpp16, repair
from csms.dispatch import ROUTES
from tests import fuzz

NOW = datetime(2026, 11, 21, 10, tzinfo=UTC)
# By hand, more: FUZZ_FRAMES=2000000 bin/test tests/unit/test_fuzz_pure.py
COUNT = int(os.environ.get("FUZZ_FRAMES", "200000"))
PARTS = 4


@pytest.mark.parametrize("part", range(PARTS))
def test_no_frame_is_too_strange(part):
    seen = {"calls": 0, "answers": 0, "unreadable": 0, "understood": 0}
    for raw in fuzz.frames(seed=1000 + part, count=COUNT // PARTS):
        try:
            reply = _pure(raw, seen)
        except Exception as error:
            pytest.fail(f"{raw!r}: {type(error).__name__} {error}")
        if reply is not None:
            assert len(reply.encode()) < 2048, raw
            parsed = json.loads(reply)
            assert parsed[0] in (3, 4), raw
    # The generator reaches every kind of frame, or it tests nothing.
    assert min(seen.values()) > COUNT // PARTS // 100, seen


def _pure(raw: bytes, seen: dict[str, int]) -> str | None:
    """What csms/dispatch.py does with a frame, without the deed."""
    frame = frames.read(raw)
    if isinstance(frame, frames.Unreadable):
        seen["unreadable"] += 1
        frame.correlation_id.encode()
        return frames.error(frame.id, frame.code, frame.reason) if frame.code else None
    if frame.type != frames.CALL:
        seen["answers"] += 1
        return None
    seen["calls"] += 1
    frame.correlation_id.encode()
    route = ROUTES["1.6"].get(frame.action)
    if route is None:
        return frames.error(frame.id, "NotImplemented", "")
    fixed = repair.repair("1.6", frame.action, frame.payload)
    assert len(fixed.notes) < 20
    if fixed.missing and not route.fact and not route.tolerant:
        return frames.error(frame.id, "OccurenceConstraintViolation", "missing " + ", ".join(fixed.missing))
    said = route.read(fixed.payload, NOW)
    assert said == route.read(fixed.payload, NOW), "the same frame means the same twice"
    assert repair.repair("1.6", frame.action, fixed.payload).payload == fixed.payload, "what is repaired stays as it is"
    seen["understood"] += 1
    return frames.result(frame.id, ocpp16.write_empty())

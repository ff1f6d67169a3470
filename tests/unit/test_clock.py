from datetime import timedelta

from voltaro import clock


def test_the_clock_moves_forward_only_when_asked():
    before = clock.now()
    clock.shift(3600)
    assert timedelta(seconds=3599) < clock.now() - before < timedelta(seconds=3605)

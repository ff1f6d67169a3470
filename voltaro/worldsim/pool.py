"""Many seeds on several cores: each process has a database of its own, and takes the next seed when it has done with one."""

import atexit
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from contextlib import ExitStack
from itertools import islice
from typing import Any

from voltaro.worldsim import arena


def over(deed: Callable[..., Any], given: Iterable[Any], jobs: int = 1) -> Iterator[Any]:
    """`deed(one)` for each of what is given, as they are done (with one job: in order). `deed` is a function of a module.

    Call `arena.enter()` first. Stopping to ask stops the work.
    """
    arena.prepare()
    if jobs <= 1:
        with arena.database():
            yield from map(deed, given)
        return
    waiting = iter(given)
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _begin) as processes:
        try:
            running = {processes.submit(deed, one) for one in islice(waiting, jobs + 1)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                running |= {processes.submit(deed, one) for one in islice(waiting, len(done))}
                for one in done:
                    yield one.result()
        finally:
            processes.shutdown(cancel_futures=True)


def _begin() -> None:
    """A new process: Django, and a database until it ends."""
    import django

    django.setup()
    stack = ExitStack()
    stack.enter_context(arena.database())
    atexit.register(stack.close)

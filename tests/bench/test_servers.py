"""daphne and uvicorn in front of the same application, in turn, in one run: docs/decisions/0004-asgi-server.md.

`bin/test tests/bench/test_servers.py -m bench -s`
"""

import pytest

from tests.bench.test_throughput import daphne, load, serving, world  # noqa: F401 - world is a fixture

pytestmark = pytest.mark.bench
PATIENT = ["--ws-ping-interval", "30", "--ws-ping-timeout", "30", "--no-access-log", "--log-level", "warning"]


def uvicorn(application, env):
    return serving(lambda port: ["uvicorn", "--host", "127.0.0.1", "--port", str(port), *PATIENT, application], env)


SERVERS = {"daphne": daphne, "uvicorn": uvicorn}


def test_both_servers_carry_the_chargers(world):  # noqa: F811
    env, keys = world
    rates: dict[tuple[str, str], list[float]] = {}
    for _ in range(3):  # in turn, so that the machine's moods meet both
        for name, server in SERVERS.items():
            with server("voltaro.asgi:application", env) as url:
                storm = load("storm", url, keys, env, 200)
                assert storm["chargers"] == 200
                meter = load("meter", url, keys, env, 50, seconds=6)
            rates.setdefault((name, "storm"), []).append(storm["per_second"])
            rates.setdefault((name, "meter"), []).append(meter["per_second"])
    middle = {key: sorted(found)[1] for key, found in rates.items()}
    for what in ("storm", "meter"):
        mine, other = middle["daphne", what], middle["uvicorn", what]
        print(f"{what}: daphne {mine:.0f}/s, uvicorn {other:.0f}/s, uvicorn / daphne {other / mine:.2f}  {rates}")
        assert min(mine, other) > 0

"""500 chargers for the measurements: python -m tests.bench.seed KEYS.json"""

import json
import os
import sys

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "voltaro.settings")
django.setup()

from accounts.models import Company  # noqa: E402
from csms import stations  # noqa: E402
from csms.models import IdTag  # noqa: E402


def main(path: str) -> None:
    company, _ = Company.objects.get_or_create(name="Bench")
    IdTag.objects.get_or_create(tag="BENCH", defaults={"concurrent": True})  # one card for all
    keys = {}
    for number in range(500):
        cp_id = f"BENCH-{number:04d}"
        keys[cp_id] = f"{number:040x}"
        stations.add_charge_point(cp_id, company=company, key=keys[cp_id])
    with open(path, "w") as f:
        json.dump(keys, f)


if __name__ == "__main__":
    main(sys.argv[1])

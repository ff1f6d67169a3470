"""Measurements, as ratios within one run: `bin/test tests/bench -m bench`. Never part of the ordinary tests."""

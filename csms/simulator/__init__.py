"""Chargers that are not there: cars and chargers as pure state machines, and the socket they speak through.

`wire`, `car`, `profiles`, `configuration`, `answers` and `charger` do no I/O and ask no clock: time and randomness come
in by the door, so that tests and simulated worlds drive them as they like. `client` and `fleet` put them on a real network.
"""

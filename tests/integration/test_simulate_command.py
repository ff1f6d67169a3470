"""manage.py simulate: what it can be asked, and what it says when it is asked for too much."""

import io

import pytest
from django.core.management import CommandError, call_command

from csms.management.commands.simulate import Command
from csms.simulator import fleet
from csms.simulator.faults import FAULTS
from csms.simulator.habits import STRANGE
from csms.simulator.script import DEEDS


def test_its_help_lists_every_habit_every_fault_and_every_deed(capsys):
    with pytest.raises(SystemExit):
        call_command("simulate", "--help")
    said = capsys.readouterr().out
    assert all(f"  {name} " in said and one.what in said for name, one in STRANGE.items())
    assert all(f"  {name} " in said for name in FAULTS)
    assert all(f" {name}" in said for name in DEEDS)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"habit": ["singing"]}, "no such habit: singing"),
        ({"habit": ["B=app_stop"]}, "no such charger runs"),
        ({"signal_every": -1}, "--signal-every 0 or more"),
        ({"ca": "/nowhere/root.pem"}, "No such file"),
        ({"faults": "fire"}, "no such fault"),
    ],
)
def test_what_it_cannot_do_it_says(db, asked, complaint):
    with pytest.raises(CommandError, match=complaint):
        call_command("simulate", chargers=["A"], stdout=io.StringIO(), **asked)


def test_a_habit_is_of_all_or_of_one():
    members = {cp_id: fleet.Member(cp_id) for cp_id in ("A", "B")}
    asked = ["app_stop", "B=no_vendor,local_time", "B=null_payload"]
    assert Command._strange(asked, members) == {
        "A": frozenset({"app_stop"}),
        "B": frozenset({"app_stop", "no_vendor", "local_time", "null_payload"}),
    }

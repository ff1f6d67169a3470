"""Known models and their habits, as quirk profiles to begin with. Made once, when the database is migrated; what an operator
changes in them stays. They cannot be deleted (they would come back): switched off they count for nobody.

`note` says what was seen. Where it says "for all", nothing has to be set: every charger is treated so (docs/quirks.md).
"""

from typing import Any, NamedTuple


class Seed(NamedTuple):
    """A profile as it is first made; patterns as in csms/models/station.py."""

    name: str
    vendor: str
    model: str
    firmware: str
    settings: dict[str, Any]
    note: str


SEEDS = (
    Seed("Every charger", "", "", "", {},
         "The most general profile: what is set here holds wherever no other says otherwise. Nothing is asked of anybody's "
         "configuration unless you write it here; MeterValueSampleInterval = 30 is what prepaid charging likes best."),
    Seed("ABB Terra", "ABB*", "*Terra*", "", {"read_back": False},
         "Restarts when its measurands are read back after they were set; takes a list of measurands in part; registers that "
         "drop for one sample (for all)."),
    Seed("Alfen", "Alfen*", "", "", {},
         "Takes hexadecimal tags only, as ours are. Its TLS root is part of its firmware: see that our chain fits before the "
         "certificate changes. Free charging starts with PlugAndChargeIdentifier: set anonymous_tag to it."),
    Seed("Autel MaxiCharger", "Autel*", "", "", {"profile_kind": "Absolute"},
         "Rejects Relative profiles for the whole charger. Without a CA uploaded it never tries wss, and nothing is seen here."),
    Seed("Delta", "Delta*", "", "", {},
         "Says transactionId 0 in readings and stops, a battery of 0 % beside real values (both for all)."),
    Seed("EN+", "EN+*", "", "",
         {"quiet_s": 30, "settle_s": 30, "pings": False, "commands_unsupported": ["ChangeAvailability"], "data_transfer": "accept"},
         "Breaks when it is asked anything before its boot is answered; AC7000 drops the line on a ping; ChangeAvailability has "
         "bricked units; tells its state by DataTransfer."),
    Seed("Enercab", "Enercab*", "", "", {},
         "Sends Origin: file:// (never looked at for chargers) and numbers padded with blanks (for all)."),
    Seed("EVBox Elvi and Livo", "EV*Box*", "", "", {"pending_first": True, "settle_s": 0, "data_transfer": "accept"},
         "Expects Pending and its configuration before it is accepted; starts by itself after a remote stop when autostart is on"
         " (evb_ keys)."),
    Seed("Easee", "Easee*", "", "", {"profile_kind": "Absolute", "rate_unit": "A"},
         "Rejects Relative charging profiles."),
    Seed("FoxESS", "*Fox*ESS*", "", "", {"subprotocols": ["ocpp1.6"], "settle_s": 30},
         "Changes its OCPP version between connections; dials again only after 6 to 19 minutes; says Available while the car is "
         "plugged in (a status ends no session)."),
    Seed("go-e", "go-e*", "", "", {"rate_unit": "A", "read_back": True},
         "Accepts keys and limits that it does not apply: they are read back."),
    Seed("Grizzl-E", "", "*Grizzl*", "", {"without_subprotocol": True, "settle_s": 20},
         "Names no sub-protocol; shows an empty password; tears frames; accepts a limit for the whole charger and ignores it "
         "(03.09)."),
    Seed("Growatt THOR", "Growatt*", "", "", {"naive_time": "local"},
         "Writes local times without a zone; a placeholder of 0 stands beside the true register in one frame (for all)."),
    Seed("Huawei SCharger", "Huawei*", "", "", {"least_current_a": 6},
         "Sends an object where a list of readings is due, 1 as every transactionId, an empty vendor (all for all); ends the "
         "session when its limit is 0."),
    Seed("Iocharger", "Iocharger*", "", "", {},
         "A first sample that is its odometer: more than its connector can deliver is held back (for all)."),
    Seed("KEBA", "Keba*", "", "", {"rate_unit": "A"},
         "Speaks of its one connector as 0 in readings (for all); wants currents, in mA in its own keys."),
    Seed("Legrand Green'Up", "Legrand*", "", "", {},
         "errorCode \"Error\" is read as OtherError (for all)."),
    Seed("Mennekes", "Mennekes*", "", "", {"profile_interval_s": 15, "heartbeat_timeout_s": 180},
         "4You drops the line when profiles come more often than every 5 to 10 s, and when its heartbeat is as long as our "
         "patience; phases in measurands' names (for all)."),
    Seed("Metron", "Metron*", "", "", {"settle_s": 30},
         "Boots every 10 s while a stop of its is refused: none ever is (for all)."),
    Seed("Morek", "Morek*", "", "", {},
         "ClockAlignedDataInterval can only be read: shown so, and left alone."),
    Seed("NEcharge", "NEcharge*", "", "", {"least_current_a": 6},
         "Ends the session when its limit falls below 6 A."),
    Seed("Ocular LTE and IQ", "Ocular*", "", "", {"heartbeat_timeout_s": 90},
         "Closes a line that is idle for 110 s; does not boot after a reconnect; adds bytes to a tag of 20 characters (for all);"
         " its meter rises after the stop (kept as late)."),
    Seed("Phoenix CHARX", "Phoenix*", "*CHARX*", "", {},
         "A remote start must name its connector (ours always do)."),
    Seed("Schneider EVlink", "Schneider*", "*EVlink*", "", {},
         "Serial numbers of 26 to 34 characters; a total of power that disagrees with its phases: the register counts (for all)."),
    Seed("StarCharge", "*Star*Charge*", "", "", {"settle_s": 30, "boot_trigger": False, "data_transfer": "accept"},
         "Dies of, or loops on, a TriggerMessage for a boot: it is never sent one."),
    Seed("Teison", "Teison*", "", "", {"heartbeat_timeout_s": 600},
         "Does not come back after a refused or closed line: it is given ten minutes. Its page splits the address in parts and "
         "drops the scheme."),
    Seed("Vestel", "Vestel*", "", "", {},
         "meterStart 0 and then its lifetime register: a jump is no energy (for all)."),
    Seed("Wallbox", "Wall*box*", "", "",
         {"quiet_s": 30, "settle_s": 30, "stack_level": 0, "profile_kind": "Relative", "boot_trigger": False, "data_transfer": "accept"},
         "Commander 2 and Pulsar boot in circles when asked before their boot is answered, Copper SB reconnects faster the more "
         "it is asked; profiles: stackLevel 0 and Relative only."),
    Seed("Wallbox 6.7", "Wall*box*", "", "6.7*", {"heartbeat_timeout_s": 60},
         "Closes a line that is idle for 30 to 45 s: its heartbeat comes every 20 s."),
    Seed("Zaptec", "Zaptec*", "", "", {},
         "Go 2 skips the stop or names an unknown transaction: an idle connector ends its session in time (for all)."),
    Seed("ZJ Beny", "*Beny*", "", "", {"settle_s": 20},
         "Doubles slashes in its path (for all); starts by itself after a remote stop."),
)  # fmt: skip
NAMES = frozenset(seed.name for seed in SEEDS)


def plant(apps: Any) -> int:
    """Make those that are not there; how many there are to make. `apps`: the models as the database has them now."""
    try:
        model = apps.get_model("csms", "QuirkProfile")
    except LookupError:
        return 0
    if not set(Seed._fields) <= {one.name for one in model._meta.get_fields()}:
        return 0  # an older state of the tables
    known = set(model.objects.values_list("name", flat=True))
    missing = [model(**seed._asdict()) for seed in SEEDS if seed.name not in known]
    model.objects.bulk_create(missing, ignore_conflicts=True)
    return len(missing)

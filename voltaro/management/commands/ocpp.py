"""manage.py ocpp CP_ID ACTION key=value ...: ask something of a charger, and wait for what it says."""

import json
import time
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from ocpp.messages import MessageType, get_validator

from csms import commands
from csms.models import ChargePoint, CommandState
from csms.models import Command as Row

GOOD = {CommandState.ACCEPTED, CommandState.EFFECTIVE}
BAD = {CommandState.REJECTED, CommandState.ERROR}
LOOK_EVERY_S = 0.1


class Command(BaseCommand):
    help = "Send a charger an OCPP 1.6 call and wait for its answer. Exit code 0: accepted; 1: rejected or error; 2: no answer, unknown."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cp_id", metavar="CP_ID")
        parser.add_argument("action", metavar="ACTION", help="e.g. RemoteStartTransaction, TriggerMessage, GetConfiguration")
        parser.add_argument("fields", nargs="*", metavar="key=value", help="of the payload; a value is JSON, or plain text")
        parser.add_argument("--wait", type=float, default=30, metavar="SECONDS", help="for the answer (default 30)")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of the command's life")

    def handle(self, *args: Any, **asked: Any) -> None:
        charge_point = ChargePoint.objects.filter(cp_id=asked["cp_id"]).first()
        if charge_point is None:
            raise CommandError(f"There is no charger {asked['cp_id']}.")
        if asked["wait"] <= 0:
            raise CommandError("--wait must be above 0.")
        payload = _payload(asked["action"], asked["fields"])
        row = commands.request(
            charge_point,
            asked["action"],
            payload,
            trigger="by hand",
            expires_in_s=max(1, round(asked["wait"])),
            requested_by="manage.py ocpp",
        )
        row = self._watch(row, asked["wait"], quiet=asked["json"])
        if asked["json"]:
            self.stdout.write(json.dumps(_facts(row, payload), indent=2))
        if row.state in GOOD:
            return
        if row.state in BAD:
            raise CommandError(f"{row.state}: {row.error or json.dumps(row.response)}", returncode=1)
        reason = row.error or ("the charger is not connected" if row.state == CommandState.QUEUED else "the charger did not answer")
        raise CommandError(f"{row.state} after {asked['wait']:g} s: {reason}", returncode=2)

    def _watch(self, row: Row, wait_s: float, *, quiet: bool) -> Row:
        """Follow the row until it says something final, and print each step."""
        began, seen = time.monotonic(), ""
        while True:
            row.refresh_from_db()
            if row.state != seen and not quiet:
                said = f"  {row.error or json.dumps(row.response)}" if row.answered_at or row.error else ""
                self.stdout.write(f"{time.monotonic() - began:7.2f} s  {row.state}{said}")
                self.stdout.flush()
                seen = row.state
            if row.state not in commands.OPEN or time.monotonic() - began > wait_s:
                return row
            time.sleep(LOOK_EVERY_S)


def _payload(action: str, fields: list[str]) -> dict[str, Any]:
    """The payload the fields make, checked against the standard's schema. Raises CommandError."""
    if not action.isalpha() or action.endswith("Response"):  # the name of a file of schemas
        raise CommandError(f"OCPP 1.6 has no call {action}.")
    try:
        schema = get_validator(MessageType.Call, action, "1.6")
    except OSError:
        raise CommandError(f"OCPP 1.6 has no call {action}.") from None
    properties = schema.schema.get("properties", {})
    payload: dict[str, Any] = {}
    for field in fields:
        name, sign, text = field.partition("=")
        if not sign or not name:
            raise CommandError(f"{field!r} is not key=value.")
        payload[name] = text if properties.get(name, {}).get("type") == "string" else _value(text)
    if error := next(schema.iter_errors(payload), None):
        where = ".".join(str(part) for part in error.absolute_path) or action
        raise CommandError(f"{where}: {error.message} ({action} knows: {', '.join(properties) or 'no fields'})")
    return payload


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _facts(row: Row, payload: dict[str, Any]) -> dict[str, Any]:
    return {
        "command": row.pk,
        "action": row.action,
        "payload": payload,
        "state": row.state,
        "response": row.response,
        "error": row.error,
        "sent_at": row.sent_at.isoformat() if row.sent_at else None,
        "answered_at": row.answered_at.isoformat() if row.answered_at else None,
    }

"""manage.py ocpp CP_ID ACTION key=value ...: ask something of a charger, and wait for what it says."""

import json
import time
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from accounts.actor import acting
from csms import calls, commands, schemas
from csms.call_forms import CHOICES, EXAMPLES, WORDS
from csms.models import ChargePoint, CommandState
from csms.models import Command as Row

WHO = "manage.py ocpp"
GOOD = {CommandState.ACCEPTED, CommandState.EFFECTIVE}
BAD = {CommandState.REJECTED, CommandState.ERROR}
LOOK_EVERY_S = 0.1


class Command(BaseCommand):
    help = (
        "Send a charger an OCPP 1.6 call and wait for its answer. Exit code 0: accepted; 1: refused here, rejected or error; "
        "2: no answer, unknown. --list: every call there is; --describe ACTION: its fields."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("cp_id", nargs="?", metavar="CP_ID")
        parser.add_argument("action", nargs="?", metavar="ACTION", help="e.g. RemoteStartTransaction, TriggerMessage, GetConfiguration")
        parser.add_argument("fields", nargs="*", metavar="key=value", help="of the payload; a value is JSON, or plain text")
        parser.add_argument("--list", action="store_true", help="the calls a charger can be asked")
        parser.add_argument("--describe", metavar="ACTION", help="the fields of a call")
        parser.add_argument("--wait", type=float, default=30, metavar="SECONDS", help="for the answer (default 30)")
        parser.add_argument("--effect", action="store_true", help="wait until it has visibly happened, not only for the answer")
        parser.add_argument("--key", metavar="KEY", help="asking twice under one key asks once")
        parser.add_argument("--secret", action="store_true", help="its value is nobody's to read (ChangeConfiguration, DataTransfer)")
        parser.add_argument("--json", action="store_true", help="print one JSON object instead of the command's life")

    def handle(self, *args: Any, **asked: Any) -> None:
        if asked["list"]:
            self._tell(asked["json"], _listed(), "\n".join(_lines()))
        elif asked["describe"]:
            facts = _described(asked["describe"])
            self._tell(asked["json"], facts, "\n".join(_words(facts)))
        elif not asked["cp_id"] or not asked["action"]:
            raise CommandError("Say which charger and which call: ocpp CP_ID ACTION key=value ... (--list shows the calls).")
        else:
            self._ask(asked)

    def _ask(self, asked: dict[str, Any]) -> None:
        charge_point = ChargePoint.objects.filter(cp_id=asked["cp_id"]).first()
        if charge_point is None:
            raise CommandError(f"There is no charger {asked['cp_id']}.")
        if asked["wait"] <= 0:
            raise CommandError("--wait must be above 0.")
        payload = _payload(asked["action"], asked["fields"])
        try:
            with acting("command", WHO):
                row = commands.ask(
                    charge_point,
                    asked["action"],
                    payload,
                    by=WHO,
                    trigger=WHO,
                    idempotency_key=asked["key"],
                    expires_in_s=max(1, round(asked["wait"])),
                    limited=False,
                    secret=asked["secret"],
                )
        except ValidationError as refusal:
            raise CommandError(refusal.messages[0]) from None
        if row.note and not asked["json"]:
            self.stdout.write(f"          {row.note}")
        row = self._watch(row, asked["wait"], quiet=asked["json"], effect=asked["effect"])
        if asked["json"]:
            self.stdout.write(json.dumps(_facts(row), indent=2))
        if row.state in GOOD and not (asked["effect"] and row.state == CommandState.ACCEPTED):
            return
        if row.state in BAD:
            raise CommandError(f"{row.state}: {row.error or json.dumps(row.response)}", returncode=1)
        why = {
            CommandState.QUEUED: calls.reachable(charge_point) or "it was not sent",
            CommandState.ACCEPTED: "it said yes, and nothing has come of it yet",
        }
        reason = row.error or why.get(CommandState(row.state), "the charger did not answer")
        raise CommandError(f"{row.state} after {asked['wait']:g} s: {reason}", returncode=2)

    def _watch(self, row: Row, wait_s: float, *, quiet: bool, effect: bool) -> Row:
        """Follow the row until it says something final, and print each step."""
        began, seen = time.monotonic(), ""
        waits = (*commands.OPEN, *((CommandState.ACCEPTED,) if effect else ()))
        while True:
            row.refresh_from_db()
            if row.state != seen and not quiet:
                said = f"  {row.error or json.dumps(row.response)}" if row.answered_at or row.error else ""
                noted = f"  ({row.note})" if row.note and seen else ""
                self.stdout.write(f"{time.monotonic() - began:7.2f} s  {row.state}{said}{noted}")
                self.stdout.flush()
                seen = row.state
            if row.state not in waits or time.monotonic() - began > wait_s:
                return row
            time.sleep(LOOK_EVERY_S)

    def _tell(self, as_json: bool, facts: Any, text: str) -> None:
        self.stdout.write(json.dumps(facts, indent=2) if as_json else text)


def _payload(action: str, fields: list[str]) -> dict[str, Any]:
    """The payload the fields make. Raises CommandError; what it holds is checked where it is asked."""
    if action not in calls.CALLS:
        raise CommandError(f"OCPP 1.6 has no call {action} from us (--list shows those there are).")
    properties = schemas.properties(action)
    payload: dict[str, Any] = {}
    for field in fields:
        name, sign, text = field.partition("=")
        if not sign or not name:
            raise CommandError(f"{field!r} is not key=value.")
        payload[name] = text if properties.get(name, {}).get("type") == "string" else _value(text)
    return payload


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _listed() -> list[dict[str, str]]:
    return [{"action": action, "profile": call.profile, "label": call.label, "what": call.what} for action, call in calls.CALLS.items()]


def _lines() -> list[str]:
    lines = []
    for title, rows in calls.groups():
        lines += [title, *(f"  {action:28} {call.label}. {call.what}" for action, call in rows)]
    return lines


def _described(action: str) -> dict[str, Any]:
    """A call and its fields, as the standard's schema has them. Raises CommandError."""
    if action not in calls.CALLS:
        raise CommandError(f"OCPP 1.6 has no call {action} from us (--list shows those there are).")
    call, needed = calls.CALLS[action], schemas.required(action)
    fields = []
    for name, schema in schemas.properties(action).items():
        label, help_text = WORDS.get(f"{action}.{name}") or WORDS.get(name, (name, ""))
        one = {"name": name, "type": schema.get("type", ""), "required": name in needed, "label": label, "help": help_text}
        if options := schema.get("enum"):
            one["one_of"] = list(CHOICES.get(f"{action}.{name}", options))
        if longest := schema.get("maxLength"):
            one["at_most"] = longest
        if name in EXAMPLES:
            one["example"] = EXAMPLES[name]
        fields.append(one)
    return {"action": action, "profile": call.profile, "label": call.label, "what": call.what, "confirm": call.confirm, "fields": fields}


def _words(facts: dict[str, Any]) -> list[str]:
    lines = [f"{facts['action']}: {facts['label']}. {facts['what']}", *([facts["confirm"]] if facts["confirm"] else [])]
    for one in facts["fields"]:
        kind = "|".join(one["one_of"]) if "one_of" in one else one["type"] + (f", {one['at_most']} at most" if "at_most" in one else "")
        lines.append(f"  {one['name']}{'' if one['required'] else ' (may be left out)'}: {kind}. {one['help']}".rstrip())
        if "example" in one:
            lines.append(f"      {one['name']}='{json.dumps(one['example'], ensure_ascii=False)}'")
    return lines if facts["fields"] else [*lines, "  It has no fields."]


def _facts(row: Row) -> dict[str, Any]:
    return {
        "command": row.pk,
        "action": row.action,
        "payload": row.payload,
        "state": row.state,
        "response": row.response,
        "error": row.error,
        "note": row.note,
        "sent_at": row.sent_at.isoformat() if row.sent_at else None,
        "answered_at": row.answered_at.isoformat() if row.answered_at else None,
    }

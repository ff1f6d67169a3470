"""Commands in the console: a form for each call of a charger, and a command's own page, which follows it until its end."""

import json
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import calls, commands, learned, message_log, schemas
from csms.by_time import between
from csms.call_forms import CallForm, form_for
from csms.models import ChargePoint, Command, CommandState, Connector, OcppMessage
from csms.rules.secrecy import MASK
from voltaro import clock

TRIGGER = "console"
# Commands that a person asked, as they stand in `trigger`; what we ask by ourselves is not asked again by hand.
BY_PEOPLE = {TRIGGER, "api", "manage.py ocpp", "by hand"}
# Around the moment a frame went or came: it is written a little later.
FRAME_S = 5
STATES = {
    CommandState.QUEUED: "It waits to be sent.",
    CommandState.SENT: "It is on the wire: the charger has not answered yet.",
    CommandState.ACCEPTED: "The charger said yes. Whether it does it will show.",
    CommandState.REJECTED: "The charger said no.",
    CommandState.ERROR: "The charger answered with an error.",
    CommandState.TIMEOUT: "The charger did not answer in time. It may have obeyed all the same.",
    CommandState.UNKNOWN: "Nobody knows whether the charger obeyed.",
    CommandState.EFFECTIVE: "It has happened.",
    CommandState.EXPIRED: "Nothing came of it.",
}


# -- asking --------------------------------------------------------------------------------------------------------
@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@operators_only
def ask(request: HttpRequest, pk: int, action: str) -> HttpResponse:
    """The form of one call for one charger; sent, it leads to the command's page."""
    charge_point = get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station", "company"), pk=pk)
    if action not in calls.CALLS:
        raise Http404(f"OCPP 1.6 has no call {action[:50]} from us.")
    key = request.POST.get("form_key", "")[:64] or str(uuid.uuid4())
    form = form_for(
        action,
        request.POST if request.method == "POST" else None,
        charge_point=charge_point,
        initial=_initial(request, charge_point, action),
    )
    if request.method == "POST" and form.is_valid():
        try:
            command = commands.ask(
                charge_point,
                action,
                form.payload(),
                by=request.user.get_username(),
                trigger=TRIGGER,
                idempotency_key=f"form:{key}",
                expires_in_s=int(form.cleaned_data["wait"] or 0) or None,
                secret=form.secret,
            )
            return redirect("csms:command", command.pk)
        except ValidationError as refusal:
            key = said_no(form, refusal, key)
    return _page(
        request,
        "csms/ask.html",
        title=f"{calls.CALLS[action].label}: {charge_point.cp_id}",
        charge_point=charge_point,
        connectors=list(Connector.objects.filter(charge_point=charge_point.cp_id).order_by("connector_id")),
        action=action,
        call=calls.CALLS[action],
        form=form,
        key=key,
        before=learned.refused(charge_point, action, form.payload() if form.is_bound and form.is_valid() else dict(form.initial)),
        away=calls.reachable(charge_point),
        own_page=own_page(charge_point, action),
        last=list(Command.objects.filter(charge_point=charge_point).order_by("-id")[:8]),
    )


def said_no(form: CallForm, refusal: ValidationError, key: str) -> str:
    """Put a refusal on the form; the key for the next try."""
    if refusal.code == "idempotency_key":
        form.add_error(None, "This form was sent before with other values. Press again to send it as it is now.")
        return str(uuid.uuid4())
    field = {"connector": "connectorId", "busy": "connectorId", "tag": "idTag", "image": "image"}.get(refusal.code or "")
    form.add_error(field if field in form.fields else None, ValidationError(refusal.messages))
    return key


def own_page(charge_point: ChargePoint, action: str) -> str:
    """The address of the page where this is better asked; "" when there is none."""
    try:
        return reverse(calls.CALLS[action].page, args=[charge_point.pk]) if calls.CALLS[action].page else ""
    except NoReverseMatch:
        return ""


def _initial(request: HttpRequest, charge_point: ChargePoint, action: str) -> dict[str, Any]:
    """What stands in the form at first: what the link says, or what an earlier command of this charger asked."""
    if again := request.GET.get("again", ""):
        rows = Command.objects.filter(charge_point=charge_point, action=action, permit=None)
        row = rows.filter(pk=int(again)).first() if again.isascii() and again.isdecimal() and len(again) < 19 else None
        return {name: value for name, value in row.payload.items() if MASK not in str(value)} if row is not None else {}
    return {name: request.GET[name][:2000] for name in schemas.properties(action) if name in request.GET}


# -- one command -----------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Moment:
    """A step of a command's life; `level` colours it."""

    at: datetime | None
    what: str
    detail: str = ""
    level: str = ""


@require_safe
@never_cache
@console_page
def command(request: HttpRequest, pk: int) -> HttpResponse:
    """One command from the asking to its effect; follows it live."""
    facts = _facts(request, _visible(request, pk))
    row = facts["command"]
    return _page(request, "csms/command.html", title=f"{calls.CALLS[row.action].label}: {row.charge_point.cp_id}", **facts)


@require_safe
@never_cache
@console_page
def command_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    return render(request, "csms/_command_live.html", _facts(request, _visible(request, pk)))


@require_POST
@operators_only
def again(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask the same once more: a new command."""
    row = _visible(request, pk)
    if not repeatable(row):
        raise PermissionDenied("This was not asked by a person: it is not asked again by hand.")
    key = request.POST.get("form_key", "")[:64] or str(uuid.uuid4())
    try:
        new = commands.ask(
            row.charge_point, row.action, row.payload, by=request.user.get_username(), trigger=TRIGGER, idempotency_key=f"again:{key}"
        )
    except ValidationError as refusal:
        messages.error(request, refusal.messages[0])
        return redirect("csms:command", row.pk)
    return redirect("csms:command", new.pk)


@require_POST
@operators_only
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back what has not been sent yet."""
    row = _visible(request, pk)
    if commands.withdraw(row.pk, request.user.get_username()):
        messages.success(request, "Taken back: it will not be sent.")
    else:
        messages.info(request, "It was on its way already.")
    return redirect("csms:command", row.pk)


def repeatable(row: Command) -> bool:
    """Whether a person may ask the same again by one click: what people asked, and what needs no number of its own."""
    if row.secret or MASK in str(row.payload):  # what it sent is not here any more
        return False
    return row.trigger in BY_PEOPLE and row.permit_id is None and not calls.CALLS[row.action].own_numbers


def _facts(request: HttpRequest, row: Command) -> dict[str, Any]:
    """Everything the page shows; a fixed number of queries."""
    now = clock.now()
    return {
        "command": row,
        "charge_point": row.charge_point,
        "call": calls.CALLS[row.action],
        "words": STATES[CommandState(row.state)],
        "away": calls.reachable(row.charge_point) if row.state == CommandState.QUEUED else "",
        "life": _life(row, now),
        "payload": _pretty(commands.shown(row, tags=may_operate(request.user))),
        "answer": _pretty(row.response) if row.response is not None else "",
        "frames": _frames(row),
        "open": row.state in (CommandState.QUEUED, CommandState.SENT, *commands.AWAITED),
        "may_operate": may_operate(request.user),
        "repeatable": repeatable(row),
        "key": str(uuid.uuid4()),
        "codes": list(Connector.objects.filter(charge_point=row.charge_point.cp_id).values_list("code", flat=True)),
        "own_page": own_page(row.charge_point, row.action),
    }


def _life(row: Command, now: datetime) -> list[Moment]:
    """What has happened to it, in the order of time, and what it waits for."""
    by = " · ".join(filter(None, (row.requested_by, row.trigger)))
    life = [Moment(row.created_at, "Asked", by)]
    if row.state == CommandState.QUEUED:
        later = row.send_after and row.send_after > now
        life.append(Moment(row.send_after if later else None, "Will be sent" if later else "Waits to be sent", level="warn"))
        life.append(Moment(row.expires_at, "Not sent any more after this"))
        return life
    if row.sent_at:
        life.append(Moment(row.sent_at, "Sent"))
    if row.answered_at:
        took = round((row.answered_at - row.sent_at).total_seconds() * 1000) if row.sent_at else None
        said = row.error or schemas.status_of(row.action, row.response) or ("answered" if row.response is not None else "")
        late = took is not None and row.sent_at and took > 30_000
        level = "bad" if row.error or row.state == CommandState.REJECTED else "good"
        detail = f"after {took} ms{', late' if late else ''}" if took is not None else ""
        life.append(Moment(row.answered_at, f"It answered: {said}", detail, level))
    elif row.error:
        life.append(Moment(None, row.error, level="bad"))
    if row.state == CommandState.EFFECTIVE:
        life.append(Moment(row.settled_at, "It has happened", row.note, "good"))
    elif row.state == CommandState.EXPIRED:
        life.append(Moment(row.settled_at, "Nothing came of it" if row.sent_at else "It was never sent", row.note, "bad"))
    elif row.note:
        life.append(Moment(None, "Note", row.note, "warn"))
    if row.state in (CommandState.ACCEPTED, CommandState.TIMEOUT, CommandState.UNKNOWN):
        life.append(Moment(row.expires_at, "Its effect is waited for until", level="warn"))
    return life


def _frames(row: Command) -> list[OcppMessage]:
    """The request and the answer as they crossed the wire."""
    found = []
    mine = message_log.light(OcppMessage.objects.filter(charge_point=row.charge_point_id, correlation_id=row.unique_id))
    for at, direction in ((row.sent_at, "OUT"), (row.answered_at, "IN")):
        if at is not None:
            around = between(mine.filter(direction=direction), at - timedelta(seconds=FRAME_S), at + timedelta(seconds=FRAME_S))
            found += list(around.order_by("pk")[:1])
    return found


def _visible(request: HttpRequest, pk: int) -> Command:
    rows = Command.objects.visible_to(request.user).select_related("charge_point__station", "session", "batch")
    return get_object_or_404(rows, pk=pk)


def _pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})

"""One call for many chargers in the console: choose them, choose the call, fill its form once, send; then follow the batch."""

import uuid
from collections.abc import Iterable
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db.models import Count, F, Max
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, may_operate, operators_only
from csms import batches, calls, commands, schemas, views
from csms.call_forms import CallForm, form_for
from csms.command_views import TRIGGER, said_no
from csms.models import ChargePoint, Command, CommandBatch, CommandState, Connector

# From so many on, their number is typed before it is sent.
CONFIRM_FROM = 10
# In the order in which a person wants to see them.
_ORDER = {
    state: place
    for place, state in enumerate(("rejected", "error", "timeout", "unknown", "expired", "sent", "queued", "accepted", "effective"))
}


class SendForm(forms.Form):
    """How a batch is sent."""

    spread = forms.BooleanField(
        required=False,
        initial=True,
        label=f"Spread it over {batches.SPREAD_S} s",
        help_text="Each charger gets it at a moment of its own, so that they do not all act at one stroke.",
    )
    number = forms.IntegerField(required=False, label="How many chargers", help_text="")

    def __init__(self, *args: Any, number: int, **kwargs: Any) -> None:
        super().__init__(*args, label_suffix="", **kwargs)
        self.number = number
        if number <= CONFIRM_FROM:
            del self.fields["number"]
        else:
            self.fields["number"].help_text = f"Type {number} to say that you mean all of them."

    def clean(self) -> dict[str, Any]:
        said = super().clean() or self.cleaned_data
        if "number" in self.fields and said.get("number") != self.number:
            self.add_error("number", f"There are {self.number} chargers: type {self.number}.")
        return said


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@operators_only
def new(request: HttpRequest) -> HttpResponse:
    """Choose the call for the chosen chargers, then fill its form. Only a POST that says `send` asks anything."""
    asked = request.POST if request.method == "POST" else request.GET
    keys, action = _keys(request, asked), asked.get("action", "")
    if action not in calls.CALLS or calls.CALLS[action].one_by_one:
        return ask_chargers(request, keys)
    chosen = batches.targets(request.user, keys)
    if not 1 <= len(chosen) <= batches.most(action):
        return _not_so_many(request, len(chosen), batches.most(action))
    sending = request.method == "POST" and "send" in request.POST
    numbers = Connector.objects.filter(charge_point__in=[one.cp_id for one in chosen]).aggregate(most=Max("connector_id"))
    form = form_for(action, request.POST if sending else None, most_connectors=numbers["most"] or 1)
    how = SendForm(request.POST if sending else None, number=len(chosen))
    key = request.POST.get("form_key", "")[:64] or str(uuid.uuid4())
    if sending and form.is_valid() and how.is_valid():
        batch, key = _send(request, chosen, form, how, key)
        if batch is not None:
            return redirect("csms:batch", batch.pk)
    return _page(
        request,
        "csms/batch_ask.html",
        title=f"{calls.CALLS[action].label}: {len(chosen)} charger{'s' if len(chosen) != 1 else ''}",
        chosen=chosen,
        keys=_joined(chosen),
        away=sum(not one.online for one in chosen),
        action=action,
        call=calls.CALLS[action],
        form=form,
        how=how,
        key=key,
    )


def ask_chargers(request: HttpRequest, keys: list[int]) -> HttpResponse:
    """The page that asks which call it shall be, for the chargers of these keys that this person may see."""
    chosen = batches.targets(request.user, keys)
    if not 1 <= len(chosen) <= batches.AT_MOST:
        return _not_so_many(request, len(chosen))
    return _page(
        request,
        "csms/batch_choose.html",
        title=f"Ask {len(chosen)} charger{'s' if len(chosen) != 1 else ''}",
        chosen=chosen,
        keys=_joined(chosen),
        groups=calls.groups(for_many=True),
    )


def _not_so_many(request: HttpRequest, number: int, most: int = batches.AT_MOST) -> HttpResponse:
    if number:
        messages.error(request, f"A batch of this is of {most} chargers at most. Search for fewer.")
    else:
        messages.info(request, "Choose the chargers first.")
    return redirect("csms:chargers")


def _send(request: HttpRequest, chosen: list[ChargePoint], form: CallForm, how: SendForm, key: str) -> tuple[CommandBatch | None, str]:
    try:
        return batches.ask(
            chosen,
            form.action,
            form.payload(),
            by=request.user.get_username(),
            trigger=TRIGGER,
            spread_s=batches.SPREAD_S if how.cleaned_data["spread"] and len(chosen) > 1 else 0,
            expires_in_s=int(form.cleaned_data["wait"] or 0) or None,
            company=batches.company_of(request.user, chosen),
            idempotency_key=key,
            secret=form.secret,
        ), key
    except ValidationError as refusal:
        return None, said_no(form, refusal, key)


def _keys(request: HttpRequest, asked: Any) -> list[int]:
    """The chargers meant: those ticked, those carried along, or all that a search of the list finds."""
    if asked.get("all"):
        rows = views.shown(views.found(request.user, asked.get("q", "").replace("\0", "").strip()[:80]), asked.get("show", "all"))
        return list(rows.order_by("cp_id").values_list("pk", flat=True)[: batches.AT_MOST + 1])
    given: Iterable[str] = [*asked.getlist("pk"), *asked.get("chargers", "").split(",")]
    keys = dict.fromkeys(int(one) for one in given if one.isascii() and one.isdecimal() and len(one) < 19)
    return list(keys)[: batches.AT_MOST + 1]


def _joined(chosen: list[ChargePoint]) -> str:
    return ",".join(str(one.pk) for one in chosen)


# -- a batch ---------------------------------------------------------------------------------------------------------
@require_safe
@never_cache
@console_page
def batch_list(request: HttpRequest) -> HttpResponse:
    """All batches this person may see, the newest first."""
    rows = CommandBatch.objects.visible_to(request.user).order_by("-id")
    page = Paginator(rows, 30).get_page(request.GET.get("page"))
    found = list(page.object_list)
    states: dict[int, dict[str, int]] = {}
    counted = Command.objects.filter(batch__in=[one.pk for one in found]).order_by().values_list("batch", "state").annotate(n=Count("pk"))
    for batch, state, number in counted:
        states.setdefault(batch, {})[state] = number
    for one in found:
        one.states = _in_order(states.get(one.pk, {}))
        one.label = calls.CALLS[one.action].label
    return _page(request, "csms/batches.html", title="Batches", rows=found, page=page, may_operate=may_operate(request.user))


@require_safe
@never_cache
@console_page
def batch(request: HttpRequest, pk: int) -> HttpResponse:
    """One batch: how many are in which state, and each charger's line; follows it live."""
    facts = _facts(request, get_object_or_404(CommandBatch.objects.visible_to(request.user), pk=pk))
    return _page(request, "csms/batch.html", title=f"Batch {pk}: {facts['label']}", **facts)


@require_safe
@never_cache
@console_page
def batch_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of that page that changes, as a fragment."""
    return render(
        request, "csms/_batch_live.html", _facts(request, get_object_or_404(CommandBatch.objects.visible_to(request.user), pk=pk))
    )


@require_POST
@operators_only
def withdraw(request: HttpRequest, pk: int) -> HttpResponse:
    """Take back what of it has not been sent yet."""
    row = get_object_or_404(CommandBatch.objects.visible_to(request.user), pk=pk)
    done = batches.withdraw(row, request.user.get_username())
    messages.success(request, f"{done} command{'s' if done != 1 else ''} taken back.")
    return redirect("csms:batch", pk)


def _facts(request: HttpRequest, row: CommandBatch) -> dict[str, Any]:
    """Four queries, however many chargers it has (500 at most)."""
    mine = Command.objects.visible_to(request.user).filter(batch=row).select_related("charge_point__station").defer("payload")
    lines = sorted(mine.order_by("charge_point__cp_id", "pk")[: batches.AT_MOST * 4], key=lambda one: _ORDER.get(one.state, 0))
    refused = ChargePoint.objects.visible_to(request.user).filter(pk__in=[int(pk) for pk in row.refused]).select_related("station")
    states: dict[str, int] = {}
    for one in lines:
        states[one.state] = states.get(one.state, 0) + 1
        one.said = one.error or schemas.status_of(one.action, one.response)
    still = {CommandState.QUEUED, CommandState.SENT, *commands.AWAITED} & set(states)
    return {
        "batch": row,
        "label": calls.CALLS[row.action].label,
        "lines": lines,
        "refused": [(one, row.refused[str(one.pk)]) for one in refused.order_by(F("cp_id"))],
        "states": _in_order(states),
        "open": bool(still),
        "waiting": states.get(CommandState.QUEUED, 0),
        "fields": list(row.payload.items()),
        "may_operate": may_operate(request.user),
    }


def _in_order(states: dict[str, int]) -> list[tuple[str, int]]:
    return [(state, states[state]) for state in CommandState.values if state in states]


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})

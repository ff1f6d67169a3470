"""Sessions that need a person's word: energy that is doubted, before it is billed; disputes; an end that no charger will say."""

from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, operators_only
from billing import bills
from billing.admin.base import may_move_money
from billing.models import QRPayment
from billing.rules.payment import Settlement, settle
from csms import doubts, sessions
from csms.models import ChargingSession
from voltaro.pages import page

SHOWN = 50
KWH_DIGITS = 12


@require_safe
@never_cache
@console_page
def held(request: HttpRequest) -> HttpResponse:
    """Sessions that are not billed before a person has looked, or a day has passed; the oldest first, a fixed number of queries."""
    rows = list(doubts.held(request.user)[: SHOWN + 1])
    for row in rows:
        _figures(row)
    return page(request, "csms/held.html", "Held for review", rows=rows[:SHOWN], further=len(rows) > SHOWN)


class ReleaseForm(forms.Form):
    """What is billed, and why."""

    choice = forms.ChoiceField(choices=[("plausible", ""), ("reported", ""), ("other", "")], widget=forms.RadioSelect)
    kwh = forms.DecimalField(label="kWh", min_value=0, max_digits=KWH_DIGITS, decimal_places=3, required=False)
    why = forms.CharField(label="Why", max_length=200, widget=forms.TextInput(attrs={"autocomplete": "off"}))

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("choice") == "other" and given.get("kwh") is None:
            raise ValidationError("Say how many kWh are billed.")
        return given

    def wh(self, row: ChargingSession) -> int:
        match self.cleaned_data["choice"]:
            case "plausible":
                return doubts.plausible_wh(row)
            case "reported":
                return doubts.reported_wh(row)
        return int(self.cleaned_data["kwh"] * 1000)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def held_session(request: HttpRequest, pk: int) -> HttpResponse:
    """One of them: what was reported, what is plausible, its curve; and for those who may move money, the decision."""
    row = get_object_or_404(doubts.held(request.user), pk=pk)
    if request.method == "POST" and not may_move_money(request):
        raise PermissionDenied("Deciding what is billed is for those who may move money.")
    form = ReleaseForm(request.POST or None, initial={"choice": "plausible"})
    if request.method == "POST" and form.is_valid():
        try:
            released = doubts.release(row.pk, form.wh(row), form.cleaned_data["why"])
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, f"{released.billable_wh / 1000:.3f} kWh are billed in a moment; the rest of the payment goes back.")
            return redirect("console-session", pk)
    _figures(row)
    payment = _payment(row)
    prices = {name: _price(payment, wh) for name, wh in (("plausible", row.plausible_wh), ("reported", row.most_wh))}
    return page(
        request,
        "csms/held_session.html",
        f"Session {row.pk}, held for review",
        session=row,
        payment=payment,
        prices=prices,
        form=form,
        chosen=form["choice"].value(),
        may_move_money=may_move_money(request),
    )


class WhyForm(forms.Form):
    why = forms.CharField(max_length=200)


@require_POST
@operators_only
def dispute(request: HttpRequest, pk: int) -> HttpResponse:
    """Somebody disputes this session: its frames are kept."""
    return _marked(request, pk, disputed=True)


@require_POST
@operators_only
def settle_dispute(request: HttpRequest, pk: int) -> HttpResponse:
    """That is over."""
    return _marked(request, pk, disputed=False)


@require_POST
@operators_only
def end(request: HttpRequest, pk: int) -> HttpResponse:
    """End a session here, because its charger will not: with the energy last known. What it may still deliver is billed to nobody."""
    row = get_object_or_404(ChargingSession.objects.visible_to(request.user), pk=pk)
    form = WhyForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say why: it stands in the audit.")
    elif sessions.finalize(row.pk, "OPERATOR", why=form.cleaned_data["why"]):
        messages.success(request, "The session is over. It is billed with the energy last known; the rest of the payment goes back.")
    else:
        messages.info(request, "This session had already ended.")
    return redirect("console-session", pk)


# -- helpers ------------------------------------------------------------------------------------------------


def _marked(request: HttpRequest, pk: int, *, disputed: bool) -> HttpResponse:
    row = get_object_or_404(ChargingSession.objects.visible_to(request.user), pk=pk)
    form = WhyForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Say why: it stands in the audit.")
    else:
        done = (doubts.dispute if disputed else doubts.settle)(row.pk, form.cleaned_data["why"])
        said = "Its frames are kept until the dispute is settled." if disputed else "Its frames go when their time has come."
        (messages.success if done else messages.info)(request, said if done else "That was so already.")
    return redirect("console-session", pk)


def _figures(row: ChargingSession) -> None:
    row.plausible_wh, row.most_wh, row.cap_wh = doubts.plausible_wh(row), doubts.reported_wh(row), doubts.cap_wh(row)
    row.decides_itself_at = row.ended_at + bills.HELD_AT_MOST if row.ended_at else None


def _payment(row: ChargingSession) -> QRPayment | None:
    return QRPayment.objects.filter(Q(session=row) | Q(permit_id=row.permit_id, permit__isnull=False)).first()


def _price(payment: QRPayment | None, wh: int) -> Settlement | None:
    if payment is None or not payment.tariff_snapshot:
        return None
    return settle(payment.amount_paid, payment.platform_fee, wh, payment.tariff_snapshot)

"""A charger's files in the console: ask for diagnostics or a log, see what came, take it away as a download."""

import re
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit
from accounts.doors import console_page, may_operate, operators_only
from csms import uploads
from csms.file_views import served
from csms.models import ChargePoint, ChargerUpload
from voltaro import clock

SHOWN = 50
LEVELS = {"uploaded": "good", "requested": "warn", "uploading": "warn", "failed": "bad", "refused": "bad", "expired": "bad"}
_PLAIN = re.compile(r"[^A-Za-z0-9._-]+")


class AskForm(forms.Form):
    """What to ask for, and of which time."""

    kind = forms.ChoiceField(label="What", choices=ChargerUpload.Kind.choices)
    from_at = forms.DateTimeField(label="From", required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}))
    to_at = forms.DateTimeField(
        label="To",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="Empty: all it has. Some chargers send everything in any case.",
    )
    retries = forms.IntegerField(label="Tries", min_value=0, max_value=10, required=False, help_text="How often it tries again by itself.")
    retry_interval_s = forms.IntegerField(label="Seconds between them", min_value=10, max_value=3600, required=False)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def charger_files(request: HttpRequest, pk: int) -> HttpResponse:
    """The files of one charger; a form to ask for one."""
    charge_point = _charge_point(request, pk)
    if request.method == "POST":
        return _ask(request, charge_point)
    return _page(request, charge_point, AskForm() if may_operate(request.user) else None)


@operators_only
def _ask(request: HttpRequest, charge_point: ChargePoint) -> HttpResponse:
    form = AskForm(request.POST)
    if form.is_valid():
        try:
            uploads.ask(charge_point, by=request.user.get_username(), **form.cleaned_data)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, "The charger has been asked. What it says, and what comes, is shown here.")
            return redirect("csms:charger-files", charge_point.pk)
    return _page(request, charge_point, form, status=400)


@require_safe
@never_cache
@console_page
def charger_files_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The list, as a fragment."""
    return render(request, "csms/_files.html", _list(request, _charge_point(request, pk)))


@require_safe
@never_cache
@operators_only
def download(request: HttpRequest, pk: int) -> HttpResponseBase:
    """What a charger sent, as a download: never shown by us, never opened by the browser by itself."""
    row = get_object_or_404(ChargerUpload.objects.visible_to(request.user).select_related("charge_point"), pk=pk)
    if not row.file:
        raise Http404
    answer = served(request, row.file, etag=row.sha256, content_type="application/octet-stream")
    if request.method == "GET" and answer.status_code == 200:
        audit.record("upload.downloaded", row, trigger="console", after={"sha256": row.sha256})
    answer.headers["Content-Disposition"] = f'attachment; filename="{file_name(row)}"'
    answer.headers["X-Content-Type-Options"] = "nosniff"
    return answer


@require_POST
@operators_only
def cancel(request: HttpRequest, pk: int) -> HttpResponse:
    row = get_object_or_404(ChargerUpload.objects.visible_to(request.user), pk=pk)
    if uploads.cancel(row, by=request.user.get_username()):
        messages.success(request, "It is waited for no longer; its address is closed.")
    else:
        messages.info(request, "It was over already.")
    return redirect("csms:charger-files", row.charge_point_id)


def file_name(row: ChargerUpload) -> str:
    """A name nobody's machine takes for more than a file: the charger, the day, and what the charger called it, made plain."""
    own = _PLAIN.sub("_", row.reported_name.replace("\\", "/").rpartition("/")[2]).strip("._")[-80:] or "file"
    return f"{_PLAIN.sub('_', row.charge_point.cp_id)}-{row.received_at:%Y%m%d-%H%M%S}-{own}"


def _charge_point(request: HttpRequest, pk: int) -> ChargePoint:
    return get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station"), pk=pk)


def _list(request: HttpRequest, charge_point: ChargePoint) -> dict[str, Any]:
    rows = list(ChargerUpload.objects.filter(charge_point=charge_point).order_by("-id")[:SHOWN])
    for row in rows:
        row.charge_point = charge_point
        row.level, row.open = LEVELS.get(row.state, ""), row.state in uploads.OPEN
    return {"rows": rows, "charge_point": charge_point, "may_operate": may_operate(request.user), "now": clock.now(), "keep": uploads.KEEP}


def _page(request: HttpRequest, charge_point: ChargePoint, form: AskForm | None, status: int = 200) -> HttpResponse:
    context = {**admin.site.each_context(request), **_list(request, charge_point), "form": form, "title": f"Files of {charge_point.cp_id}"}
    return render(request, "csms/charger_files.html", context, status=status)

"""Firmware in the console: the images kept, the updates on their way, and the forms that start and stop them."""

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.doors import console_page, may_change_shared, may_operate, operators_only, shared_only
from accounts.models import AuditEntry
from csms import calls, files, firmware, images
from csms.models import ChargePoint, FirmwareImage, FirmwareUpdate
from voltaro import clock

SHOWN = 50
AT_ONCE = calls.FIRMWARE_AT_ONCE
FORM_GOOD_FOR = timedelta(hours=12)
LEVELS = {
    "installed": "good",
    "cancelled": "",
    **dict.fromkeys(("download_failed", "installation_failed", "bad_signature", "rolled_back", "refused", "expired"), "bad"),
}
WORDS = {
    "requested": "Asked by {by}",
    "asked": "Asked of the charger",
    "progress": "{state}",
    "fetched": "It began to read the file",
    "fetched_whole": "It read the file to the end",
    "installed": "Installed: it booted with the new version",
    "rolled_back": "Rolled back: it booted with another version",
    "failed": "{state}",
    "retry": "{state}; to be asked again",
    "cancelled": "Cancelled",
}


class ImageForm(forms.Form):
    """An image to keep. What is in the file is the charger's business."""

    file = forms.FileField(label="File", max_length=255)
    name = forms.CharField(max_length=120, help_text="For people.")
    version = forms.CharField(
        max_length=50, help_text="As the charger's boot will name it: an update has succeeded when it boots with this."
    )
    vendor = forms.CharField(max_length=50, required=False, help_text="Empty: any.")
    model = forms.CharField(max_length=50, required=False, help_text="Empty: any.")
    signature = forms.CharField(
        label="Manufacturer's signature",
        required=False,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Base64; for signed updates only.",
    )
    signing_certificate = forms.CharField(
        label="Manufacturer's certificate", required=False, widget=forms.Textarea(attrs={"rows": 2}), help_text="PEM; with the signature."
    )

    def clean_file(self) -> Any:
        file = self.cleaned_data["file"]
        if file.size > settings.MAX_FIRMWARE_BYTES:
            raise ValidationError(f"The file is larger than {settings.MAX_FIRMWARE_BYTES // 1024 // 1024} MiB.")
        return file

    def add(self) -> FirmwareImage:
        """Raises ValidationError."""
        said = dict(self.cleaned_data)
        file = said.pop("file")
        return images.add(file, file_name=file.name, **said)


class UpdateForm(forms.Form):
    """When, and how."""

    retrieve_at = forms.DateTimeField(
        label="Download from", required=False, widget=forms.DateTimeInput(attrs={"type": "datetime-local"}), help_text="Empty: now."
    )
    signed = forms.BooleanField(label="Signed (SignedUpdateFirmware)", required=False)
    install_at = forms.DateTimeField(
        label="Install from",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
        help_text="Signed updates only. Empty: as soon as it can.",
    )


class ImageUpdateForm(UpdateForm):
    """When, and how, for one image: without a signature nothing is signed."""

    def __init__(self, image: FirmwareImage, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not image.signature:
            del self.fields["signed"], self.fields["install_at"]


class ChargerForm(UpdateForm):
    """Which image, for one charger."""

    image = forms.ModelChoiceField(FirmwareImage.objects.none(), empty_label=None)
    field_order = ["image"]

    def __init__(self, charge_point: ChargePoint, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fits = (Q(vendor="") | Q(vendor__iexact=charge_point.vendor)) & (Q(model="") | Q(model__iexact=charge_point.model))
        self.fields["image"].queryset = FirmwareImage.objects.filter(fits).order_by("-id")


@require_safe
@never_cache
@console_page
def firmware_home(request: HttpRequest) -> HttpResponse:
    """Images and the newest updates; a form for one more image."""
    return _home(request, ImageForm() if may_change_shared(request.user) else None)


@require_POST
@shared_only
def add_image(request: HttpRequest, name: str) -> HttpResponse:
    """Keep an image. The address is this person's, for a while: only to such is a large body let in (voltaro/bodies.py)."""
    named = files.read_name(files.CONSOLE, name)
    if named is None or named.pk != request.user.pk or clock.now() >= named.expires_at:
        messages.error(request, "That form was too old. Please choose the file again.")
        return redirect("csms:firmware")
    form = ImageForm(request.POST, request.FILES)
    if form.is_valid():
        try:
            image = form.add()
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, f"{image} is kept. Choose the chargers it is for.")
            return redirect("csms:firmware-image", image.pk)
    return _home(request, form, status=400)


def _home(request: HttpRequest, form: ImageForm | None, status: int = 200) -> HttpResponse:
    name = files.name_of(files.CONSOLE, request.user.pk, clock.now() + FORM_GOOD_FOR)
    return _page(
        request,
        "csms/firmware.html",
        status,
        title="Firmware",
        form=form,
        add_address=reverse("csms:firmware-add", args=[name]),
        images=list(FirmwareImage.objects.order_by("-id")[:SHOWN]),
        updates=_updates(FirmwareUpdate.objects.visible_to(request.user)),
        most_mib=settings.MAX_FIRMWARE_BYTES // 1024 // 1024,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def firmware_image(request: HttpRequest, pk: int) -> HttpResponse:
    """One image: what it is, which chargers it may go to, and its updates."""
    image = get_object_or_404(FirmwareImage, pk=pk)
    if request.method == "POST":
        return _start(request, image)
    return _image(request, image, ImageUpdateForm(image) if may_operate(request.user) else None)


@operators_only
def _start(request: HttpRequest, image: FirmwareImage) -> HttpResponse:
    """Ask the chosen chargers; what cannot be asked of one is said, and the others are asked."""
    form = ImageUpdateForm(image, request.POST)
    chosen = [int(one) for one in request.POST.getlist("charger") if one.isascii() and one.isdigit() and len(one) < 18]
    if not chosen:
        form.add_error(None, "Choose at least one charger.")
    elif len(chosen) > AT_ONCE:
        form.add_error(None, f"At most {AT_ONCE} chargers at once.")
    if not form.is_valid():
        return _image(request, image, form, status=400, chosen=chosen)
    started, refused = [], []
    for charge_point in ChargePoint.objects.visible_to(request.user).filter(pk__in=chosen).order_by("cp_id"):
        try:
            started.append(firmware.update(charge_point, image, by=request.user.get_username(), **form.cleaned_data))
        except ValidationError as error:
            refused += error.messages
    if refused and not started:
        for why in refused:
            form.add_error(None, why)
        return _image(request, image, form, status=400, chosen=chosen)
    for why in refused:
        messages.warning(request, why)
    messages.success(request, f"Asked {len(started)} charger{'s' if len(started) > 1 else ''}. What each says is shown here.")
    return redirect("csms:firmware-update", started[0].pk) if len(started) == 1 else redirect("csms:firmware-image", image.pk)


def _image(request: HttpRequest, image: FirmwareImage, form: UpdateForm | None, status: int = 200, chosen: Any = ()) -> HttpResponse:
    words = request.GET.get("q", "").replace("\0", "").strip()[:80]
    fitting = ChargePoint.objects.visible_to(request.user).filter(blocked=False, unclaimed=False)
    for name in ("vendor", "model"):
        if meant := getattr(image, name):
            fitting = fitting.filter(**{f"{name}__iexact": meant})
    if words:
        fitting = fitting.filter(Q(cp_id__icontains=words) | Q(station__name__icontains=words) | Q(firmware_version__icontains=words))
    rows = list(fitting.select_related("station").order_by("cp_id")[: SHOWN + 1])
    busy = set(FirmwareUpdate.objects.filter(charge_point__in=rows, finished_at__isnull=True).values_list("charge_point_id", flat=True))
    for row in rows:
        row.busy, row.chosen = row.pk in busy, row.pk in chosen
    return _page(
        request,
        "csms/firmware_image.html",
        status,
        title=str(image),
        image=image,
        form=form,
        words=words,
        rows=rows[:SHOWN],
        more=len(rows) > SHOWN,
        most=AT_ONCE,
        updates=_updates(FirmwareUpdate.objects.visible_to(request.user).filter(image=image)),
        added_by=image.created_by,
        may_remove=may_change_shared(request.user),
    )


@require_POST
@shared_only
def remove_image(request: HttpRequest, pk: int) -> HttpResponse:
    """Forget an image that was never sent."""
    image = get_object_or_404(FirmwareImage, pk=pk)
    try:
        images.remove(image)
    except ValidationError as error:
        messages.error(request, " ".join(error.messages))
        return redirect("csms:firmware-image", pk)
    messages.success(request, f"{image} is gone.")
    return redirect("csms:firmware")


@require_safe
@never_cache
@console_page
def firmware_update(request: HttpRequest, pk: int) -> HttpResponse:
    """One charger's update: where it stands, and everything that was said and done."""
    row = _update(request, pk)
    return _page(request, "csms/firmware_update.html", title=f"{row.charge_point} to {row.image.version}", **_life(request, row))


@require_safe
@never_cache
@console_page
def firmware_update_live(request: HttpRequest, pk: int) -> HttpResponse:
    """The part of it that changes, as a fragment."""
    return render(request, "csms/_firmware_update.html", _life(request, _update(request, pk)))


@require_POST
@operators_only
def cancel_update(request: HttpRequest, pk: int) -> HttpResponse:
    row = _update(request, pk)
    if firmware.cancel(row, by=request.user.get_username()):
        messages.success(request, "Cancelled: the address is closed. If the charger has the file already, it may install it all the same.")
    else:
        messages.info(request, "It was over already.")
    return redirect("csms:firmware-update", pk)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def charger_firmware(request: HttpRequest, pk: int) -> HttpResponse:
    """One charger's updates, and a form with the images that are for it."""
    charge_point = get_object_or_404(ChargePoint.objects.visible_to(request.user).select_related("station"), pk=pk)
    if request.method == "POST":
        return _start_one(request, charge_point)
    return _charger(request, charge_point, ChargerForm(charge_point) if may_operate(request.user) else None)


@operators_only
def _start_one(request: HttpRequest, charge_point: ChargePoint) -> HttpResponse:
    form = ChargerForm(charge_point, request.POST)
    if form.is_valid():
        try:
            row = firmware.update(charge_point, by=request.user.get_username(), **form.cleaned_data)
        except ValidationError as error:
            form.add_error(None, error)
        else:
            messages.success(request, "The charger has been asked. What it says is shown here.")
            return redirect("csms:firmware-update", row.pk)
    return _charger(request, charge_point, form, status=400)


def _charger(request: HttpRequest, charge_point: ChargePoint, form: ChargerForm | None, status: int = 200) -> HttpResponse:
    return _page(
        request,
        "csms/charger_firmware.html",
        status,
        title=f"Firmware of {charge_point.cp_id}",
        charge_point=charge_point,
        form=form,
        updates=_updates(FirmwareUpdate.objects.filter(charge_point=charge_point)),
    )


# -- helpers ------------------------------------------------------------------------------------------------------------
def _page(request: HttpRequest, template: str, status: int = 200, **context: Any) -> HttpResponse:
    shared = {**admin.site.each_context(request), "may_operate": may_operate(request.user), "now": clock.now()}
    return render(request, template, {**shared, **context}, status=status)


def _updates(rows: QuerySet[FirmwareUpdate]) -> list[FirmwareUpdate]:
    found = list(rows.select_related("charge_point", "image").order_by("-id")[:SHOWN])
    for row in found:
        row.level = level(row)
    return found


def level(row: FirmwareUpdate) -> str:
    """How its state is coloured: what waits to be tried again is not lost yet."""
    return "warn" if row.finished_at is None else LEVELS.get(row.state, "")


def _update(request: HttpRequest, pk: int) -> FirmwareUpdate:
    rows = FirmwareUpdate.objects.visible_to(request.user).select_related("charge_point__station", "image", "command")
    return get_object_or_404(rows, pk=pk)


def _life(request: HttpRequest, row: FirmwareUpdate) -> dict[str, Any]:
    entries = AuditEntry.objects.filter(target_type=FirmwareUpdate._meta.label_lower, target_id=str(row.pk)).order_by("-id")[:200]
    states = dict(FirmwareUpdate.State.choices)
    told = []
    for entry in entries:
        deed = entry.action.rpartition(".")[2]
        state = states.get(entry.after.get("state", ""), "")
        words = WORDS.get(deed, deed).format(state=state, by=row.requested_by or "nobody")
        said = entry.after.get("said", "") if entry.trigger == entry.after.get("said") else ""
        if said.casefold() == words.replace(" ", "").casefold():
            said = ""
        told.append(
            {
                "at": entry.at,
                "words": words,
                "said": said,
                "why": why if (why := entry.after.get("error", "")) != said else "",
                "actor": "" if deed == "requested" else entry.actor,
            }
        )
    row.level = level(row)
    return {"row": row, "told": told, "may_operate": may_operate(request.user), "now": clock.now()}

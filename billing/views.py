"""The rider's pages: the page behind each QR, its sticker, one's own charges, and the look-up of a payment."""

import hashlib
import logging
import re
from typing import Any

from django.contrib.auth.decorators import login_required
from django.core.cache import cache
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_http_methods, require_safe
from redis.exceptions import RedisError

from billing import qr, rider, tariffs
from billing.models import QRCode
from csms.models import Connector
from voltaro import clock

log = logging.getLogger(__name__)

# Look-ups by one address (an IPv6 neighbour counts as the same), and by everybody, in one window.
LOOKUPS_EACH, LOOKUPS_ALL, LOOKUP_WINDOW_S = 10, 600, 600


def _connector(code: str) -> Connector | None:
    """By the code on the sticker, however it was typed."""
    code = code.strip().upper()
    if not re.fullmatch(r"[A-Z0-9]{4,12}", code):
        return None
    return Connector.objects.select_related("charge_point__station", "charge_point__company").filter(code=code).first()


def _public(response: HttpResponse) -> HttpResponse:
    """Live and nobody else's business: not kept, not indexed."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    return response


def _unknown(request: HttpRequest, code: str) -> HttpResponse:
    return _public(render(request, "billing/unknown.html", {"code": code[:12]}, status=404))


@require_safe
def connector(request: HttpRequest, code: str) -> HttpResponse:
    """The page behind the QR: what this is, what it costs, how to, and what happens here now."""
    row = _connector(code)
    if row is None:
        return _unknown(request, code)
    now = clock.now()
    tariff = tariffs.for_connector(row, now)
    context = {
        "connector": row,
        "place": rider.place(row, now),
        "tariff": tariff,
        "per_kwh": rider.with_gst(tariff) if tariff else None,
        "qr": _active_qr(row),
    }
    return _public(render(request, "billing/connector.html", context))


@require_safe
def live(request: HttpRequest, code: str) -> HttpResponse:
    """The part of it that changes."""
    row = _connector(code)
    if row is None:
        return _unknown(request, code)
    return _public(render(request, "billing/_live.html", {"connector": row, "place": rider.place(row, clock.now())}))


@require_safe
def sticker(request: HttpRequest, code: str) -> HttpResponse:
    """What is printed and put on the charger."""
    row = _connector(code)
    if row is None:
        return _unknown(request, code)
    tariff = tariffs.for_connector(row, clock.now())
    context = {
        "connector": row,
        "qr": _active_qr(row),
        "tariff": tariff,
        "per_kwh": rider.with_gst(tariff) if tariff else None,
    }
    return _public(render(request, "billing/sticker.html", context))


@require_safe
def qr_image(request: HttpRequest, code: str, kind: str) -> HttpResponse:
    """The UPI QR itself, as svg (with the station's name and the code) or png (bare). Razorpay's picture where we have no text."""
    row = _connector(code)
    active = _active_qr(row) if row else None
    if active is None:
        return _unknown(request, code)
    body = qr.image_svg(active) if kind == "svg" else qr.image_png(active)
    if body is None:
        return redirect(active.image_url) if active.image_url.startswith("https://") else _unknown(request, code)
    response = HttpResponse(body, content_type="image/svg+xml" if kind == "svg" else "image/png")
    if "download" in request.GET:
        response.headers["Content-Disposition"] = f'attachment; filename="voltaro-{row.code}.{kind}"'
    response = _public(response)
    response.headers["Cache-Control"] = "public, max-age=300"
    return response


def _active_qr(row: Connector) -> QRCode | None:
    return row.qr_codes.filter(status=QRCode.Status.ACTIVE).first()


@require_safe
@never_cache
@login_required
def ride(request: HttpRequest) -> HttpResponse:
    """A signed-in rider's own charges and refunds."""
    page = Paginator(rider.mine(request.user), 20).get_page(request.GET.get("page"))
    return render(request, "billing/ride.html", {"page": page, "stories": rider.tell(list(page.object_list))})


@require_http_methods(["GET", "HEAD", "POST"])
@csrf_protect
def my_charges(request: HttpRequest) -> HttpResponse:
    """Find one payment by two facts only its payer has: the bank reference and the amount. POST only; one answer for every miss."""
    context: dict[str, Any] = {}
    if request.method == "POST":
        reference, amount = _reference(request.POST.get("reference", "")), _paise(request.POST.get("amount", ""))
        context = {"asked": True, "amount": request.POST.get("amount", "")[:12]}
        # A miss, a mistyped field and too many tries are answered alike: what is here is not told by asking.
        if _may_look(request) and reference and amount and (payment := rider.find(reference, amount)):
            context["story"] = rider.tell([payment])[0]
    response = _public(render(request, "billing/my_charges.html", context))
    response.headers["Referrer-Policy"] = "same-origin"
    return response


def _reference(text: str) -> str:
    text = re.sub(r"[\s-]", "", text)[:40]
    return text if re.fullmatch(r"[A-Za-z0-9_]{6,40}", text) else ""


def _paise(text: str) -> int:
    """Rupees as typed to paise; 0 when that is not an amount."""
    found = re.fullmatch(r"₹?\s*([0-9]{1,8}(?:,[0-9]{2,3})*)(?:\.([0-9]{1,2}))?", text.strip()[:20], re.ASCII)
    return int(found[1].replace(",", "")) * 100 + int((found[2] or "0").ljust(2, "0")) if found else 0


def _may_look(request: HttpRequest) -> bool:
    """False when this address, or everybody together, has asked too often just now; or when we cannot count."""
    who = request.META.get("REMOTE_ADDR") or "?"
    who = ":".join(who.split(":")[:4]) if ":" in who else who
    mark = hashlib.sha256(who.encode()).hexdigest()[:24]
    try:
        return _count(f"lookup:{mark}") <= LOOKUPS_EACH and _count("lookup:all") <= LOOKUPS_ALL
    except RedisError as error:
        log.warning("look-ups are closed: they cannot be counted (%s)", type(error).__name__)
        return False


def _count(key: str) -> int:
    cache.add(key, 0, LOOKUP_WINDOW_S)
    try:
        return cache.incr(key)
    except ValueError:  # it ran out between the two calls
        cache.set(key, 1, LOOKUP_WINDOW_S)
        return 1

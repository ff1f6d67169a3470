"""The message log's pages in the console: look for frames, one exchange, the file of a search, and a session frame by frame."""

from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.db import transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from accounts import audit
from accounts.doors import console_page, may_operate
from csms import message_csv, message_log, message_search, message_text, quirks, repair, replay
from csms.message_log import Exchange, Page, TooMuch
from csms.message_search import DIRECTIONS, KINDS, Search
from csms.models import ChargePoint, ChargingSession, OcppMessage
from voltaro import clock

TOO_MUCH = "That is too much to look through. Choose a shorter time, or one charger."


@require_safe
@never_cache
@console_page
def messages(request: HttpRequest) -> HttpResponse:
    """Exchanges of a stretch of time, the newest first; a fixed number of queries, whatever the table holds."""
    search = message_search.read(request.GET, request.user, clock.now())
    problems, found = list(search.problems), Page([])
    if not problems:
        try:
            found = message_log.page(search, request.user, before=_id(request, "before"), after=_id(request, "after"))
        except TooMuch:
            problems.append(TOO_MUCH)
    newest = _newest(search) if not (problems or found.exchanges or request.GET.get("before")) else None
    return _page(
        request,
        "csms/messages.html",
        title=f"Messages of {search.charge_point.cp_id}" if search.charge_point else "Messages",
        search=search,
        asked={name: request.GET.get(name, "") for name in ("charger", "action", "id", "text", "from", "to")},
        problems=problems,
        found=found,
        newest=newest,
        newest_from=_local(newest.at, -60) if newest else "",
        older=search.address(before=found.older) if found.older else "",
        newer=search.address(after=found.newer) if found.newer else "",
        download=reverse("csms:messages-csv") + search.address(),
        kinds=[(name, words) for name, (_, words) in KINDS.items()],
        directions=list(DIRECTIONS.items()),
        actions=sorted(repair.actions("1.6")),
        now=clock.now(),
    )


@require_safe
@never_cache
@console_page
def message(request: HttpRequest, pk: int) -> HttpResponse:
    """One exchange, both frames in full; as a fragment for a list's line that was opened (?part=1)."""
    frame = get_object_or_404(message_log.light(OcppMessage.objects.visible_to(request.user)), pk=pk)
    exchange = message_log.exchange(frame)
    sides = _sides(exchange, tags=may_operate(request.user))
    context = {"exchange": exchange, "sides": sides, "charge_point": frame.charge_point}
    if request.GET.get("part"):
        return render(request, "csms/_exchange.html", context)
    around = _local(frame.at, -60), _local(frame.at, 60)
    return _page(request, "csms/message.html", title=exchange.action or "Message", around=around, **context)


@require_safe
@never_cache
@console_page
def frame(request: HttpRequest, pk: int) -> HttpResponse:
    """One frame as text: indented when it is JSON, as it came when it is not."""
    row = get_object_or_404(OcppMessage.objects.visible_to(request.user).select_related("charge_point"), pk=pk)
    text = message_text.shown(row.raw, tags=may_operate(request.user), also=quirks.of(row.charge_point).secret_keys)
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


@require_safe
@never_cache
@console_page
def messages_csv(request: HttpRequest) -> HttpResponse | StreamingHttpResponse:
    """What a search finds, as a file. Who took which frames along is on record."""
    search = message_search.until_now(message_search.read(request.GET, request.user, clock.now()), clock.now())
    if search.problems:
        return redirect(f"{reverse('csms:messages')}?{request.GET.urlencode()}")
    asked = search.facts()
    if search.text:
        asked["text"] = f"{len(search.text)} characters"  # it may be a tag
    with transaction.atomic():
        audit.record("messages.exported", search.charge_point or request.user, trigger="console", after=asked)
    return message_csv.download(message_log.selected(search, request.user), search)


@require_safe
@never_cache
@console_page
def session_replay(request: HttpRequest, pk: int) -> HttpResponse:
    """A session frame by frame; a fixed number of queries."""
    session = get_object_or_404(
        ChargingSession.objects.visible_to(request.user).select_related("charge_point__station", "connector", "company"), pk=pk
    )
    try:
        told = replay.of(session, clock.now(), after=_id(request, "after"), tags=may_operate(request.user))
    except TooMuch:
        told = None
    return _page(request, "csms/replay.html", title=f"Session {session.pk}, frame by frame", session=session, told=told)


# -- helpers ------------------------------------------------------------------------------------------------


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), **context})


def _id(request: HttpRequest, name: str) -> int | None:
    given = request.GET.get(name, "")
    return int(given) if given.isascii() and given.isdecimal() and 0 < int(given[:20]) < 2**63 else None


def _local(at: datetime, seconds: int) -> str:
    return message_search.local(at + timedelta(seconds=seconds))


def _newest(search: Search) -> OcppMessage | None:
    """Where a charger's frames are, when there are none where somebody looked."""
    if search.charge_point is None:
        return None
    return OcppMessage.objects.filter(charge_point=search.charge_point).only("at").order_by("-pk").first()


def _sides(exchange: Exchange, *, tags: bool) -> list[dict[str, Any]]:
    """Request and answer as the page shows them: what came, and what it was taken for when that is not the same."""
    frames = [(name, frame) for name, frame in (("Request", exchange.request), ("Answer", exchange.answer)) if frame]
    raw = dict(OcppMessage.objects.filter(pk__in=[frame.pk for _, frame in frames]).values_list("pk", "raw"))
    also = quirks.secret_keys_of(ChargePoint.objects.filter(pk=exchange.frame.charge_point_id)).get(exchange.frame.charge_point.cp_id, ())
    sides = []
    for name, frame in frames:
        taken, changes = message_text.understood(raw[frame.pk], tags=tags, also=also) if frame.direction == "IN" else ("", [])
        text = message_text.shown(raw[frame.pk], tags=tags, also=also)
        sides.append({"name": name, "frame": frame, "text": text, "taken": taken, "changes": changes})
    return sides

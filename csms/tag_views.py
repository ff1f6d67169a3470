"""The operators' pages about RFID tags: find, add, change, block, one tag's history, in from a file and out to one."""

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.db import IntegrityError, transaction
from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts import audit
from accounts.doors import console_page, may_operate, operators_only
from accounts.models import AuditEntry, Company, Provider, User
from accounts.roles import sees_everything
from csms import card_csv, cards
from csms.models import ChargingSession, IdTag
from csms.rules import tag as rule
from voltaro import clock

SHOW = (("all", "All"), ("ready", "May charge"), ("blocked", "Blocked"), ("expired", "Expired"), ("external", "External"))
PER_PAGE, RECENT = 50, 20
# Unknown tags of the last days, for whoever has just handed out a card.
LATELY = timedelta(days=7)


class TagForm(forms.ModelForm):
    """A tag as people write it: kept as tags are compared, and said when it is there already."""

    expires_at = forms.DateTimeField(
        label="Valid until",
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text="Empty: for good.",
    )
    tag = forms.CharField(
        label="Number",
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false", "class": "mono"}),
        help_text="As the card's reader says it. Case, blanks and separators do not matter.",
    )
    parent = forms.CharField(
        label="Group",
        max_length=40,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="Tags of one group may stop each other's sessions (parentIdTag).",
    )

    person = forms.CharField(
        label="Rider",
        max_length=150,
        required=False,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        help_text="Sign-in name of the rider who sees its sessions, if there is one.",
    )

    class Meta:
        model = IdTag
        fields = ["tag", "note", "company", "parent", "expires_at", "concurrent"]
        labels = {"note": "Holder", "concurrent": "May charge at several connectors at once"}
        help_texts = {"note": "Whose card it is."}

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["company"].queryset = Company.objects.visible_to(user).order_by("name")
        self.fields["company"].required = not sees_everything(user)
        if self.instance.user_id:
            self.initial["person"] = self.instance.user.get_username()
        if self.instance.pk is None and not self.initial.get("company"):
            self.initial["company"] = _own_company(user)
        if self.instance.source == "external":  # what it may do is the authorizer's word
            for name in ("tag", "parent", "expires_at"):
                self.fields[name].disabled = True

    def clean_tag(self) -> str:
        said = str(self.cleaned_data["tag"])
        tag = rule.normal(said)
        if not tag:
            raise ValidationError("A tag has letters or digits.")
        if len("".join(char for char in said.partition(";")[0] if char.isalnum())) > rule.MOST:
            raise ValidationError(f"A tag has {rule.MOST} letters and digits at most.")
        other = IdTag.objects.filter(tag=tag).exclude(pk=self.instance.pk).first()
        if other is not None:
            known = cards.cards().filter(pk=other.pk)
            whose = f" ({other.note})" if other.note and known.exists() else ""
            raise ValidationError(f"{tag} is there already{whose}.")
        return tag

    def clean_parent(self) -> str:
        return rule.normal(self.cleaned_data.get("parent") or "")

    def clean_person(self) -> User | None:
        name = str(self.cleaned_data.get("person") or "").strip()
        found = User.objects.filter(username=name, is_active=True).exclude(provider=Provider.UPI_GUEST).first() if name else None
        if name and found is None:
            raise ValidationError("Nobody signs in by that name.")
        return found

    def save(self, commit: bool = True) -> IdTag:
        self.instance.user = self.cleaned_data["person"]
        return super().save(commit)


@require_safe
@never_cache
@console_page
def tags(request: HttpRequest) -> HttpResponse:
    """All tags this person may see: search, filters with their counts, where each was last used; a fixed number of queries."""
    full, now = may_operate(request.user), clock.now()
    mine = _mine(request)
    words = request.GET.get("q", "").replace("\0", "").strip()[:80]
    if words:
        found = Q(note__icontains=words) | Q(user__username__icontains=words) | Q(parent__iexact=rule.normal(words) or words)
        if full and (normal := rule.normal(words)):
            found |= Q(tag__contains=normal)
        mine = mine.filter(found)
    kinds = _kinds(now)
    numbers = mine.aggregate(all=Count("pk"), **{name: Count("pk", filter=which) for name, which in kinds.items()})
    show = request.GET.get("show", "all")
    show = show if show in kinds else "all"
    rows = mine.filter(kinds[show]) if show != "all" else mine
    last = ChargingSession.objects.filter(card=OuterRef("pk")).order_by("-id").values("pk")[:1]
    rows = rows.select_related("company").annotate(last_session=Subquery(last)).order_by("-id")
    page = Paginator(_Counted(rows, numbers[show]), PER_PAGE).get_page(request.GET.get("page"))
    shown = list(page.object_list)
    _attach(request, shown, full, now)
    return _page(
        request,
        "csms/tags.html",
        title="Tags",
        rows=shown,
        page=page,
        words=words,
        show=show,
        tabs=[(name, label, numbers[name]) for name, label in SHOW if name != "external" or numbers[name] or settings.AUTHORIZER_URL],
        unknown=_unknown(request, now) if full and not words else [],
        authorizer=bool(settings.AUTHORIZER_URL),
        unanswered=cards.cards().filter(refresh_at__isnull=False).count() if settings.AUTHORIZER_URL else 0,
    )


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@operators_only
def new(request: HttpRequest) -> HttpResponse:
    """A form for a new tag."""
    form = TagForm(request.POST or None, user=request.user, initial={"tag": rule.normal(request.GET.get("tag", ""))})
    if request.method == "POST" and form.is_valid() and (row := _kept(form)) is not None:
        messages.success(request, f"{row.tag} may charge now.")
        return redirect("csms:tag", row.pk)
    return _page(request, "csms/tag_new.html", title="New tag", form=form)


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@console_page
def tag(request: HttpRequest, pk: int) -> HttpResponse:
    """One tag: what it is, its sessions, why it was refused lately, what was done to it; a form to change it."""
    row = get_object_or_404(_mine(request).select_related("company", "user"), pk=pk)
    if request.method == "POST":
        return _change(request, row)
    return _tag_page(request, row, TagForm(instance=row, user=request.user) if may_operate(request.user) else None)


@operators_only
def _change(request: HttpRequest, row: IdTag) -> HttpResponse:
    form = TagForm(request.POST, instance=row, user=request.user)
    if form.is_valid() and _kept(form) is not None:
        messages.success(request, "Saved.")
        return redirect("csms:tag", row.pk)
    return _tag_page(request, get_object_or_404(_mine(request).select_related("company", "user"), pk=row.pk), form)


@require_POST
@operators_only
def block(request: HttpRequest) -> HttpResponse:
    """Block the chosen tags, or let them charge again."""
    keys = [int(key) for key in request.POST.getlist("tag") if key.isdecimal() and len(key) < 19]
    chosen = list(_mine(request).filter(pk__in=keys).values_list("pk", flat=True)[:1_000])
    unblock = request.POST.get("deed") == "unblock"
    if not chosen:
        messages.info(request, "Choose tags first.")
    else:
        done = cards.block(chosen, unblock=unblock)
        what = "may charge again" if unblock else ("is blocked" if done == 1 else "are blocked")
        messages.success(request, f"{done} tag{'' if done == 1 else 's'} {what}.")
    back = request.POST.get("back", "")
    return redirect("csms:tag", int(back)) if back.isdecimal() and len(back) < 19 else redirect("csms:tags")


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
@operators_only
def import_tags(request: HttpRequest) -> HttpResponse:
    """Bring tags in from a CSV file: first what it would do, line by line, then the deed."""
    companies = Company.objects.visible_to(request.user).order_by("name")
    context: dict[str, Any] = {"title": "Tags from a file", "companies": companies, "columns": ", ".join(card_csv.COLUMNS)}
    context["company"] = companies.filter(pk=_number(request.POST.get("company"))).first() or _own_company(request.user)
    if request.method == "POST":
        text, problem = _text(request)
        plan = card_csv.read(text, request.user, context["company"]) if not problem else card_csv.Plan(problems=[problem])
        if request.POST.get("deed") == "bring_in" and plan.right:
            try:
                done = card_csv.bring_in(plan)
            except IntegrityError:
                plan.problems.append("Somebody has added one of these tags just now. Look again.")
            else:
                messages.success(request, f"{done} tag{'' if done == 1 else 's'} brought in.")
                return redirect("csms:tags")
        wrong = [line for line in plan.lines if line.verdict == "wrong"]
        context |= {"plan": plan, "text": text, "lines": (wrong or plan.lines)[:200], "more": max(0, len(wrong or plan.lines) - 200)}
    return _page(request, "csms/tags_import.html", **context)


@require_safe
@never_cache
@operators_only
def export(request: HttpRequest) -> HttpResponseBase:
    """The tags this person may see, as a file that can be brought in again. Who took them along is on record."""
    rows = _mine(request).filter(source="own").select_related("company").order_by("pk")
    with transaction.atomic():
        audit.record("tags.exported", request.user, trigger="console", after={"tags": rows.count()})
    response = HttpResponse(card_csv.write(rows.iterator(chunk_size=2_000)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="tags-{timezone.localtime(clock.now()):%Y-%m-%d}.csv"'
    return response


# -- helpers ------------------------------------------------------------------------------------------------------------
def _mine(request: HttpRequest) -> QuerySet[IdTag]:
    return IdTag.objects.visible_to(request.user).filter(kind=IdTag.Kind.RFID)


def _kinds(now: Any) -> dict[str, Q]:
    blocked = Q(state__in=[IdTag.State.BLOCKED, IdTag.State.REVOKED])
    expired = Q(expires_at__lte=now)
    refused = Q(source="external") & ~Q(external_status="Accepted")
    return {
        "ready": ~blocked & ~refused & (Q(expires_at__isnull=True) | Q(expires_at__gt=now)),
        "blocked": blocked,
        "expired": expired & ~blocked,
        "external": Q(source="external"),
    }


def _attach(request: HttpRequest, rows: list[IdTag], full: bool, now: Any) -> None:
    """What each row shows: its number as this person may see it, its state in words, and its last session (one query)."""
    keys = [row.last_session for row in rows if row.last_session]
    seen = ChargingSession.objects.visible_to(request.user).select_related("charge_point__station", "connector").in_bulk(keys)
    for row in rows:
        row.shown = row.tag if full else f"…{row.tag[-4:]}"
        row.level, row.words = _state(row, now)
        row.last = seen.get(row.last_session)


def _state(row: IdTag, now: Any) -> tuple[str, str]:
    if row.state in (IdTag.State.BLOCKED, IdTag.State.REVOKED):
        return "bad", row.get_state_display()
    if row.source == "external" and row.external_status != "Accepted":
        return "bad", f"Authorizer: {row.external_status or 'no answer'}"
    if row.expires_at is not None and row.expires_at <= now:
        return "warn", "Expired"
    return "good", "May charge"


def _unknown(request: HttpRequest, now: Any) -> list[dict[str, Any]]:
    """Tags nobody knows that were shown lately, newest first, each once."""
    entries = AuditEntry.objects.visible_to(request.user).filter(action="tag.unknown", at__gt=now - LATELY).order_by("-id")[:50]
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        if shown := str(entry.after.get("tag") or ""):
            found.setdefault(shown, {"tag": shown, "at": entry.at, "charge_point": entry.target_id, "cp_id": entry.actor})
    known = set(IdTag.objects.filter(tag__in=list(found)).values_list("tag", flat=True))
    return [one for shown, one in found.items() if shown not in known][:10]


def _tag_page(request: HttpRequest, row: IdTag, form: TagForm | None) -> HttpResponse:
    full, now = may_operate(request.user), clock.now()
    sessions = ChargingSession.objects.visible_to(request.user).filter(card=row).select_related("charge_point__station", "connector")
    entries = AuditEntry.objects.filter(target_type="csms.idtag", target_id=str(row.pk)).order_by("-id")
    row.shown = row.tag if full else f"…{row.tag[-4:]}"
    row.level, row.words = _state(row, now)
    return _page(
        request,
        "csms/tag.html",
        title=f"Tag {row.shown}",
        row=row,
        form=form,
        sessions=list(sessions.order_by("-id")[:RECENT]),
        refused=list(entries.filter(action="tag.refused")[:RECENT]),
        deeds=list(entries.exclude(action="tag.refused")[:RECENT]),
        reservations=list(row.reservations.visible_to(request.user).select_related("connector", "charge_point").order_by("-id")[:5]),
        may_operate=full,
        now=now,
    )


def _kept(form: TagForm) -> IdTag | None:
    try:
        with transaction.atomic():
            return cards.keep(form.save(commit=False))
    except IntegrityError:
        form.add_error("tag", "Somebody has added this tag just now.")
        return None


def _own_company(user: Any) -> Company | None:
    membership = user.memberships.select_related("company").order_by("pk").first()
    return membership.company if membership else None


def _text(request: HttpRequest) -> tuple[str, str]:
    """The file's text, and what is wrong with it as a file."""
    upload = request.FILES.get("file")
    if upload is None:
        text = request.POST.get("text", "")
        return text, "" if text.strip() else "Choose a file, or paste its lines."
    if upload.size > card_csv.MOST_BYTES:
        return "", "The file is too large: 1 MB at most."
    try:
        return upload.read().decode("utf-8-sig"), ""
    except UnicodeDecodeError:
        return "", "The file is not UTF-8. In a spreadsheet choose “CSV UTF-8”."


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() and len(text) < 19 else None


class _Counted(list):
    """A page's rows whose number is already known: the paginator asks nothing twice."""

    def __init__(self, rows: QuerySet, number: int) -> None:
        super().__init__()
        self.rows, self.number = rows, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, window: Any) -> Any:
        return self.rows[window]


def _page(request: HttpRequest, template: str, **context: Any) -> HttpResponse:
    return render(request, template, {**admin.site.each_context(request), "may_operate": may_operate(request.user), **context})

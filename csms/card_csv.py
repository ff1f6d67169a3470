"""RFID tags as a CSV file: read with every line's fault named, nothing kept while one is wrong; written safe for spreadsheets."""

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, time
from io import StringIO
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime

from accounts.models import Company
from csms import cards
from csms.frames import clean
from csms.message_csv import safe
from csms.models import IdTag
from csms.rules import tag as rule

MOST_LINES, MOST_BYTES = 2_000, 1_000_000
COLUMNS = ["tag", "holder", "group", "valid until", "company", "several at once", "state"]
# What people call them; the first is ours.
_NAMES = {
    "tag": ("tag", "idtag", "id tag", "uid", "rfid", "card"),
    "note": ("holder", "note", "name"),
    "parent": ("group", "parent", "parentidtag", "parent tag"),
    "expires_at": ("valid until", "expires", "expiry", "expirydate", "valid_until", "expires_at"),
    "company": ("company",),
    "concurrent": ("several at once", "concurrent"),
    "state": ("state", "status"),
}
_YES, _NO = {"yes", "y", "true", "1", "x"}, {"no", "n", "false", "0", ""}
_STATES = {"": "", "may charge": "ready", "ready": "ready", "accepted": "ready", "blocked": "blocked"}
_DAY_FIRST = re.compile(r"(\d{1,2})[-/.](\d{1,2})[-/.](\d{4})(.*)", re.DOTALL)


@dataclass
class Line:
    """One line of the file and what will become of it: new, changed, same, or wrong (`why`)."""

    number: int
    tag: str = ""
    verdict: str = "new"
    why: list[str] = field(default_factory=list)
    values: dict[str, Any] = field(default_factory=dict)
    state: str = ""
    named_company: bool = False
    row: IdTag | None = None


@dataclass
class Plan:
    """What an import would do. `problems` are of the file as a whole."""

    lines: list[Line] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @property
    def right(self) -> bool:
        return not self.problems and bool(self.lines) and all(line.verdict != "wrong" for line in self.lines)

    def count(self, verdict: str) -> int:
        return sum(line.verdict == verdict for line in self.lines)

    @property
    def counts(self) -> list[tuple[str, int]]:
        return [(name, self.count(name)) for name in ("new", "changed", "same", "wrong")]


def read(text: str, user: Any, default: Company | None) -> Plan:
    """What bringing this file in would do, for a person who may see these rows. Changes nothing.

    Only columns that are there change anything of a tag we have; `default` owns new tags whose line names no company.
    """
    plan = Plan()
    text = clean(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n"))
    try:
        head, *rows = _cells(text)
    except (ValueError, csv.Error):
        plan.problems.append("The file is empty, or no CSV.")
        return plan
    columns = {name: at for at, cell in enumerate(head) if (name := _column(cell))}
    if "tag" not in columns:
        plan.problems.append(f"The first line must name the columns, {COLUMNS[0]!r} among them. Known: {', '.join(COLUMNS)}.")
        return plan
    if len(rows) > MOST_LINES:
        plan.problems.append(f"{len(rows)} lines are too many at once: {MOST_LINES} at most.")
        return plan
    companies = {one.name.casefold(): one for one in Company.objects.visible_to(user)[:1_000]}
    for number, cells in enumerate(rows, start=2):
        if any(cell.strip() for cell in cells):
            told = {name: _unescaped(cells[at]) if at < len(cells) else "" for name, at in columns.items()}
            plan.lines.append(_line(number, told, companies, default))
    if not plan.lines:
        plan.problems.append("The file has no tags: only a first line.")
    _compare(plan, user)
    return plan


@transaction.atomic
def bring_in(plan: Plan) -> int:
    """Do what `read` has planned; how many tags are new or changed. Call only with a plan that is right."""
    assert plan.right
    done = 0
    for line in plan.lines:
        if line.verdict == "same":
            continue
        row = line.row or IdTag(tag=line.tag)
        for name, value in line.values.items():
            setattr(row, name, value)
        cards.keep(row, trigger="csv")
        if line.state and line.state != row.state:
            cards.block([row.pk], unblock=line.state == "ready", trigger="csv")
        done += 1
    return done


def write(rows: Iterable[IdTag]) -> str:
    """These tags as a file that `read` understands."""
    out = StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for row in rows:
        until = timezone.localtime(row.expires_at).strftime("%Y-%m-%d %H:%M:%S") if row.expires_at else ""
        company = row.company.name if row.company_id else ""
        cells = [row.tag, row.note, row.parent, until, company, "yes" if row.concurrent else "no", row.get_state_display().lower()]
        writer.writerow([safe(cell) for cell in cells])
    return out.getvalue()


# -- one line -----------------------------------------------------------------------------------------------------------
def _line(number: int, told: dict[str, str], companies: dict[str, Company], default: Company | None) -> Line:
    line = Line(number, rule.normal(told["tag"]))
    if not line.tag:
        line.why.append("It names no tag.")
    elif len("".join(char for char in told["tag"].partition(";")[0] if char.isalnum())) > rule.MOST:
        line.why.append(f"{told['tag'][:30]} has more than {rule.MOST} letters and digits.")
    if "note" in told:
        line.values["note"] = told["note"][:120]
    if "parent" in told:
        line.values["parent"] = rule.normal(told["parent"])
    if "expires_at" in told:
        line.values["expires_at"] = _until(told["expires_at"], line)
    if "concurrent" in told:
        line.values["concurrent"] = _yes(told["concurrent"], line)
    if "state" in told:
        if (state := _STATES.get(told["state"].casefold())) is None:
            line.why.append(f"{told['state'][:30]!r} is no state: may charge, or blocked.")
        line.state = state or ""
    if told.get("company"):
        if (company := companies.get(told["company"].casefold())) is None:
            line.why.append(f"There is no company {told['company'][:60]!r}, or not for you.")
        else:
            line.values["company_id"], line.named_company = company.pk, True
    elif default is not None:
        line.values["company_id"] = default.pk
    return line


def _compare(plan: Plan, user: Any) -> None:
    """Each line against the others and against what we have."""
    have = {row.tag: row for row in IdTag.objects.filter(tag__in=[line.tag for line in plan.lines])}
    mine = set(IdTag.objects.visible_to(user).filter(pk__in=[row.pk for row in have.values()]).values_list("pk", flat=True))
    seen: dict[str, int] = {}
    for line in plan.lines:
        if line.tag in seen:
            line.why.append(f"{line.tag} stands on line {seen[line.tag]} already.")
        elif line.tag:
            seen[line.tag] = line.number
        row = have.get(line.tag)
        if row is not None and (row.pk not in mine or row.kind != IdTag.Kind.RFID):
            line.why.append(f"{line.tag} is taken.")
        elif row is not None and row.source != "own":
            line.why.append(f"{line.tag} is the external authorizer's.")
        elif row is not None:
            line.row = row
            if not line.named_company:
                line.values.pop("company_id", None)
            same = all(getattr(row, name) == value for name, value in line.values.items())
            line.verdict = "same" if same and line.state in ("", row.state) else "changed"
        if line.why:
            line.verdict = "wrong"


def _cells(text: str) -> list[list[str]]:
    if not text.strip():
        raise ValueError("empty")
    first = text.lstrip("\n").partition("\n")[0]
    between = max(",;\t", key=first.count)
    return list(csv.reader(StringIO(text.lstrip("\n")), delimiter=between, strict=True))


def _column(cell: str) -> str:
    said = cell.strip().casefold()
    return next((name for name, called in _NAMES.items() if said in called), "")


def _unescaped(cell: str) -> str:
    """What `safe` put before a formula is taken off again."""
    cell = cell.strip()
    return cell[1:] if cell[:1] == "'" and safe(cell[1:]) == cell else cell


def _until(text: str, line: Line) -> datetime | None:
    """A day counts to its end."""
    if not text:
        return None
    if match := _DAY_FIRST.fullmatch(text):
        text = f"{match[3]}-{match[2]:0>2}-{match[1]:0>2}{match[4]}"
    try:
        at = parse_datetime(text.strip())
        if (day := parse_date(text.strip())) is not None:
            at = datetime.combine(day, time(23, 59, 59))
    except ValueError:
        at = None
    if at is None:
        line.why.append(f"{text[:30]!r} is no date: write it as 2027-03-31, with a time if you like.")
        return None
    return timezone.make_aware(at) if timezone.is_naive(at) else at


def _yes(text: str, line: Line) -> bool:
    said = text.casefold()
    if said not in _YES | _NO:
        line.why.append(f"{text[:30]!r} is neither yes nor no.")
    return said in _YES

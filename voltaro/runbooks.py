"""The runbooks (docs/runbooks/*.md) as pages of the console: whoever sees a failure is one click from what to do."""

import re
from pathlib import Path

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.views.decorators.http import require_safe

from accounts.doors import console_page
from voltaro import pages

FOLDER = Path(settings.BASE_DIR) / "docs" / "runbooks"
_INLINE = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*|\[([^\]]+)\]\(([^)\s]+)\)")


@require_safe
@console_page
def page(request: HttpRequest, name: str) -> HttpResponse:
    """One runbook."""
    if name not in names():
        raise Http404("There is no such runbook.")
    title, body = rendered((FOLDER / f"{name}.md").read_text())
    return pages.page(request, "csms/runbook.html", title, body=body)


def names() -> set[str]:
    """Those there are."""
    return {path.stem for path in FOLDER.glob("*.md")}


def rendered(text: str) -> tuple[str, SafeString]:
    """Title and body. What our own documents use of Markdown: headings, paragraphs, lists, tables, code, bold, links."""
    title, out = "Runbook", []
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = block.splitlines()
        if found := re.match(r"(#+) (.*)", lines[0]):
            if len(found[1]) == 1:
                title = found[2]
            else:
                out.append(f"<h2>{_inline(found[2])}</h2>")
            lines = lines[1:]
        if lines:
            out.append(_block(lines))
    return title, mark_safe("\n".join(out))  # noqa: S308 - every text in it was escaped


def _block(lines: list[str]) -> str:
    if lines[0].startswith("```"):
        return _pre([line for line in lines if not line.startswith("```")])
    if lines[0].startswith("    "):
        return _pre([line[4:] for line in lines])
    if lines[0].startswith("|"):
        head, _, *rows = [[_inline(cell.strip()) for cell in line.strip("|").split(" | ")] for line in lines]
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
        top = "".join(f"<th>{cell}</th>" for cell in head)
        return f'<div class="vt-wrap"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
    if re.match(r"(- |\d+\. )", lines[0]):
        kind = "ul" if lines[0].startswith("- ") else "ol"
        items = re.split(r"(?m)^(?:- |\d+\. )", "\n".join(lines))[1:]
        return f"<{kind}>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + f"</{kind}>"
    return f"<p>{_inline(' '.join(lines))}</p>"


def _pre(lines: list[str]) -> str:
    return f"<pre>{escape(chr(10).join(lines))}</pre>"


def _inline(text: str) -> str:
    """Escaped first, then code, bold, and links to other runbooks; other links are words here."""
    return _INLINE.sub(_mark, str(escape(" ".join(text.split()))))


def _mark(found: re.Match[str]) -> str:
    code, bold, words, target = found.groups()
    if code is not None:
        return f"<code>{code}</code>"
    if bold is not None:
        return f"<b>{bold}</b>"
    name = Path(target).stem
    return f'<a href="{reverse("runbook", args=[name])}">{words}</a>' if target.endswith(".md") and name in names() else words

"""The sandbox's pages: a list of QRs, a UPI app to pay with, and a view of where the money went."""

import base64
import hashlib
import json
from datetime import datetime
from html import escape
from pathlib import Path
from urllib.parse import quote, urlsplit

from billing.sandbox import qr_codes
from billing.sandbox.settlements import IST
from billing.sandbox.world import World

CSS = (Path(__file__).parent / "page.css").read_text()
# The chips only fill in the amount; without script a person types it.
SCRIPT = (
    "document.querySelectorAll('[data-rupees]').forEach(function(b){b.addEventListener('click',function(){"
    "document.getElementById('amount').value=b.dataset.rupees})})"
)
_HASH = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{_HASH}'; img-src 'self' data:; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
ICON = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 32 32"><rect width="32" height="32" rx="8" fill="#0b6b4f"/></svg>'
CHIPS = (20, 50, 100, 200, 500)
ACCOUNTS = {
    "bank_account": "Savings account",
    "credit_card": "RuPay credit card",
    "wallet": "UPI wallet",
    "credit_line": "Credit line",
}
_GOOD = ("captured", "processed", "active", "delivered", "settled")
_BAD = ("failed", "given_up", "dropped", "disabled")
_QUIET = ("closed", "refunded", "kept", "none")


def rupees(paise: int) -> str:
    """₹12,34,567.80, grouped as in India; whole rupees without the paise."""
    whole, rest = divmod(abs(paise), 100)
    text = str(whole)
    head, tail = text[:-3], text[-3:]
    while head:
        head, tail = head[:-2], f"{head[-2:]},{tail}"
    return f"{'−' if paise < 0 else ''}₹{tail}{f'.{rest:02d}' if rest else ''}"


def home(world: World) -> str:
    cards = []
    qr_codes.expire(world)
    for qr in sorted(world.store.find("qr_code", count=1000), key=lambda qr: (qr["status"], _name(qr))):
        times = qr["payments_count_received"]
        received = f"{rupees(qr['payments_amount_received'])} in {times} payment{'' if times == 1 else 's'}"
        go = f'<a class="go" href="/pay/{qr["id"]}">Pay</a>' if qr["status"] == "active" else ""
        about = f'<div class="soft small">{escape(received)} {_tag(qr["status"])}</div>'
        cards.append(f'<div class="card row"><div><h3>{escape(_name(qr))}</h3>{about}</div>{go}</div>')
    none = '<div class="card soft">No QR code yet. They appear here when a connector gets its QR.</div>'
    return _page(
        "Scan a QR code", "<h1>Scan a QR code</h1><p class='soft'>Pick one as if you stood before it.</p>" + ("".join(cards) or none)
    )


def pay(world: World, target: dict, given: dict, error: str | None) -> str:
    is_order = target["id"].startswith("order_")
    name = "Order " + (target["receipt"] or target["id"]) if is_order else _name(target)
    fixed = target["amount"] if is_order else target["payment_amount"]
    closed = target["status"] in ("closed", "paid")
    under = f"{target['id']}" if is_order else qr_codes.upi_address(target)
    shown = _said(error)
    head = (
        f'<div class="card payee"><div class="face">{escape(name.strip()[:1].upper() or "S")}</div>'
        f'<h1>{escape(name)}</h1><div class="vpa">{escape(under)}</div></div>'
    )
    if closed and not world.moods.late_payments:
        words = "This order has been paid." if is_order else "This QR code is closed and takes no more money."
        return _page(name, head + (shown or _said(words)) + '<a class="again" href="/">Other QR codes</a>')
    amount = escape(str(given.get("amount", "")) if fixed is None else f"{fixed // 100}.{fixed % 100:02d}")
    chips = "" if fixed is not None else "".join(f'<button type="button" data-rupees="{n}">₹{n}</button>' for n in CHIPS)
    vpa, contact = escape(str(given.get("vpa", "asha@sandbox"))), escape(str(given.get("contact", "")))
    options = "".join(
        f'<option value="{key}"{" selected" if given.get("account") == key else ""}>{text}</option>' for key, text in ACCOUNTS.items()
    )
    form = f"""{head}{shown}<form class="card" method="post" action="/pay/{target["id"]}">
<input type="hidden" name="once" value="{world.word(16)}">
<div class="amount"><span>₹</span><input id="amount" name="amount" inputmode="decimal" autocomplete="off" aria-label="Amount in rupees"
 placeholder="0" value="{amount}"{" readonly" if fixed is not None else " autofocus"} required></div>
<div class="chips">{chips}</div>
<label>Your UPI ID<input name="vpa" value="{vpa}" autocomplete="off" autocapitalize="none" spellcheck="false"></label>
<label>Mobile number (optional)<input name="contact" value="{contact}" inputmode="tel" autocomplete="off"></label>
<label>Pay from<select name="account">{options}</select></label>
<button class="pay" type="submit">Pay</button>
<div class="soft small">failure@razorpay is a UPI ID whose payments always fail.</div>
</form><script>{SCRIPT}</script>"""
    return _page(f"Pay {name}", form)


def paid(world: World, payment: dict) -> str:
    qr = world.store.get("qr_code", payment.get("_qr_id") or "") or {}
    failed = payment["status"] == "failed"
    back = _back(world, qr)
    link = f'<a class="again" href="{escape(back)}">See it at the charger</a>' if back and not failed else ""
    again = f'<p class="soft"><a href="/pay/{qr["id"]}">Pay again</a> · <a href="/">Other QR codes</a></p>' if qr else ""
    facts = {
        "To": _name(qr) if qr else payment["order_id"],
        "From": payment["vpa"],
        "UPI reference (RRN)": payment["rrn"],
        "Payment": payment["id"],
        "Time": _when(payment["created_at"]),
        "Refunded": rupees(payment["amount_refunded"]) if payment["amount_refunded"] else None,
    }
    rows = "".join(f"<dt>{key}</dt><dd>{escape(str(value))}</dd>" for key, value in facts.items() if value)
    mark, word = ("×", "Payment failed. No money was taken.") if failed else ("✓", "Paid")
    body = (
        f'<div class="card done"><div class="tick{" bad" if failed else ""}">{mark}</div><div class="soft">{word}</div>'
        f'<div class="big">{rupees(payment["amount"])}</div></div><div class="card"><dl>{rows}</dl></div>{link}{again}'
    )
    return _page("Payment", body)


def dashboard(world: World) -> str:
    store = world.store
    payments, refunds = store.find("payment", count=50), store.find("refund", count=50)
    transfers, settlements = store.find("transfer", count=50), store.find("settlement", count=20)
    deliveries = store.rows("SELECT * FROM deliveries ORDER BY seq DESC LIMIT 60")
    sums = {kind: paise for kind, paise in store.rows("SELECT kind, SUM(credit - debit) FROM money GROUP BY kind")}
    tiles = {
        "Balance": store.balance(),
        "Payments, less fees": sums.get("payment", 0),
        "Refunds": sums.get("refund", 0),
        "Transfers, with fees": sums.get("transfer", 0),
        "Settled to the bank": sums.get("settlement", 0),
    }
    cards = "".join(f'<div class="card"><span class="soft small">{k}</span><b>{rupees(v)}</b></div>' for k, v in tiles.items())
    parts = [
        f'<h1>Where the money went</h1><div class="sums">{cards}</div>',
        _moods(world),
        _table("Payments", "Time, Payment, From, #Amount, #Fee, Status, #Refunded, RRN", [_payment_row(p) for p in payments]),
        _table("Refunds", "Time, Refund, Payment, #Amount, Speed, Status", [_refund_row(r) for r in refunds]),
        _table("Transfers", "Time, Transfer, To, #Amount, #Fee, Status, Settlement", [_transfer_row(t) for t in transfers]),
        _table("Settlements", "Time, Settlement, For, #Amount, UTR", [_settlement_row(s) for s in settlements]),
        _table("Webhooks", "Time, Event, Id, Status, #Attempts, Last answer", [_delivery_row(d) for d in deliveries]),
    ]
    return _page("Dashboard", "".join(parts), wide=True, refresh=True)


def message(title: str, text: str) -> str:
    return _page(title, f'<h1>{escape(title)}</h1><div class="error">{escape(text)}</div><a class="again" href="/">All QR codes</a>')


def card(qr: dict) -> str:
    """A picture in place of Razorpay's branded one."""
    return f"""<svg xmlns="http://www.w3.org/2000/svg" width="320" height="400" viewBox="0 0 320 400" font-family="sans-serif">
<rect width="320" height="400" rx="20" fill="#0b6b4f"/><rect x="24" y="96" width="272" height="232" rx="12" fill="#fff"/>
<text x="160" y="56" fill="#fff" font-size="20" font-weight="700" text-anchor="middle">{escape(_name(qr)[:28])}</text>
<text x="160" y="205" fill="#14211b" font-size="16" text-anchor="middle">{escape(qr_codes.upi_address(qr))}</text>
<text x="160" y="232" fill="#5d6b64" font-size="13" text-anchor="middle">Pay at /pay/{qr["id"]}</text>
<text x="160" y="366" fill="#fff" font-size="14" text-anchor="middle">Sandbox: no real money</text></svg>"""


def _page(title: str, body: str, *, wide: bool = False, refresh: bool = False) -> str:
    every = '<meta http-equiv="refresh" content="5">' if refresh else ""
    return f"""<!doctype html><html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Sandbox</title><link rel="icon" href="data:,">{every}<style>{CSS}</style></head><body>
<div class="strip">Sandbox: no real money</div><main{' class="wide"' if wide else ""}>
<nav><a href="/">QR codes</a><a href="/dashboard">Where the money went</a></nav>{body}</main></body></html>"""


def _moods(world: World) -> str:
    kept = {name: value for name, value in (world.store.fact("moods") or {}).items() if value not in ([], None, False, 0, "current")}
    if not kept:
        return ""
    words = ", ".join(f"{name} = {json.dumps(value)}" for name, value in kept.items())
    return f'<div class="error">Moods in force: {escape(words)}</div>'


def _table(title: str, heads: str, rows: list[list[str]]) -> str:
    if not rows:
        return f'<h2>{title}</h2><div class="card soft">None yet.</div>'
    names = heads.split(", ")
    classes = [' class="num"' if name.startswith("#") else "" for name in names]
    head = "".join(f"<th{kind}>{name.lstrip('#')}</th>" for name, kind in zip(names, classes, strict=True))
    cells = ("".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(row, classes, strict=True)) for row in rows)
    body = "".join(f"<tr>{row}</tr>" for row in cells)
    return f'<h2>{title}</h2><div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _payment_row(p: dict) -> list[str]:
    head = [_when(p["created_at"]), f'<a href="/paid/{p["id"]}"><code>{p["id"]}</code></a>', escape(p["vpa"] or "not told")]
    return [*head, rupees(p["amount"]), rupees(p["_fee"]), _tag(p["status"]), rupees(p["amount_refunded"]), p["rrn"] or ""]


def _refund_row(r: dict) -> list[str]:
    head = [_when(r["created_at"]), _code(r["id"]), _code(r["payment_id"]), rupees(r["amount"])]
    return [*head, escape(r["speed_processed"] or r["speed_requested"]), _tag(r["status"])]


def _transfer_row(t: dict) -> list[str]:
    head = [_when(t["created_at"]), _code(t["id"]), _code(t["recipient"]), rupees(t["amount"]), rupees(t["fees"])]
    return [*head, _tag(t["status"]), _tag(t["settlement_status"] or "none")]


def _settlement_row(s: dict) -> list[str]:
    return [_when(s["created_at"]), _code(s["id"]), _code(s["_recipient"] or "the merchant"), rupees(s["amount"]), _code(s["utr"])]


def _delivery_row(d) -> list[str]:
    return [_when(d["created_at"]), escape(d["event"]), _code(d["event_id"]), _tag(d["state"]), str(d["attempts"]), escape(d["answer"])]


def _back(world: World, qr: dict) -> str | None:
    """The charger's public page: named by the QR's notes, or made from the template and those notes."""
    notes = {name: str(value) for name, value in qr.get("notes", {}).items()}
    link = notes.get("page")
    if link is None and (template := world.options.rider_url_template):
        words = {"qr_id": qr.get("id", ""), "name": qr.get("name") or "", **notes}
        if "connector" in notes:
            words.setdefault("code", notes["connector"])
        try:
            link = template.format_map({name: quote(value, safe="") for name, value in words.items()})
        except (KeyError, ValueError, IndexError):
            return None  # this QR's notes do not say
    return link if link and urlsplit(link).scheme in ("http", "https") else None


def _name(qr: dict) -> str:
    return qr["name"] or qr["id"]


def _said(error: str | None) -> str:
    return f'<div class="error" role="alert">{escape(error)}</div>' if error else ""


def _tag(status: str) -> str:
    kind = "good" if status in _GOOD else "bad" if status in _BAD else "" if status in _QUIET else "wait"
    return f'<span class="tag {kind}">{escape(status.replace("_", " "))}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, IST).strftime("%d %b %H:%M:%S")

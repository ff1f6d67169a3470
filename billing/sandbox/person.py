"""What a person does here: look, pay, set a mood. No key is asked for, so only this machine is heard."""

import json
import re
from decimal import Decimal, InvalidOperation
from urllib.parse import parse_qs, urlsplit

from billing.sandbox import moods, orders, page, payments, qr_codes, settlements
from billing.sandbox.options import loopback
from billing.sandbox.world import Request, Response, World


class Unreadable(ValueError):
    """What was sent cannot be understood."""


def answer(world: World, request: Request) -> Response:
    path, method = request.path, request.method
    if not _from_here(world, request):
        return _html(403, page.message("Not from here", "The sandbox takes forms from its own pages only."))
    if method in ("GET", "HEAD"):
        if path == "/":
            return _html(200, page.home(world))
        if path == "/dashboard":
            return _html(200, page.dashboard(world))
        if match := re.fullmatch(r"/pay/([A-Za-z0-9_]+)", path):
            return _pay_page(world, match[1])
        if match := re.fullmatch(r"/paid/([A-Za-z0-9_]+)", path):
            return _paid_page(world, match[1])
        if match := re.fullmatch(r"/i/([A-Za-z0-9]+)", path):
            return _image(world, match[1])
        if path == "/favicon.ico":
            return Response(200, page.ICON.encode(), "image/svg+xml")
        if path == "/sandbox/moods":
            return _json(200, world.moods.all())
        if path == "/healthz":
            return _json(200, {"ok": True})
    if method == "POST":
        if match := re.fullmatch(r"/pay/([A-Za-z0-9_]+)", path):
            return _pay(world, request, match[1])
        if path == "/sandbox/moods":
            return _set_moods(world, request)
        if path == "/sandbox/settle":
            return _json(200, {"settlements": settlements.run(world)})
    return _html(404, page.message("Nothing here", "This address does not exist in the sandbox."))


def rupees_to_paise(text: str) -> int:
    try:
        paise = Decimal(str(text).replace(",", "").strip()) * 100
    except InvalidOperation:
        raise Unreadable("Please enter an amount in rupees.") from None
    if not paise.is_finite() or abs(paise) > 10**12 or paise != paise.to_integral_value():
        raise Unreadable("Please enter an amount in rupees, with two decimals at most.")
    return int(paise)


def _pay(world: World, request: Request, id: str) -> Response:
    as_json = "json" in request.headers.get("content-type", "")
    form: dict = {}
    try:
        form = _form(request)
        done = _pay_once(world, id, form)
    except (Unreadable, payments.PayRefused) as refusal:
        if as_json:
            return _json(400, {"error": str(refusal)})
        target = _payee(world, id)
        if target is None:
            return _html(404, page.message("No such QR code", str(refusal)))
        return _html(400, page.pay(world, target, form, str(refusal)))
    if as_json:
        return _json(200, {**done, "rrn": payments.known(world, done["payment_id"])["rrn"]})
    return Response(303, b"", "text/html", (("Location", f"/paid/{done['payment_id']}"),))


def _pay_once(world: World, id: str, form: dict) -> dict:
    """A form that is sent twice (an impatient thumb) pays once."""
    who = {"vpa": _vpa(form.get("vpa")), "contact": _contact(form.get("contact")), "account": form.get("account") or "bank_account"}
    token = str(form.get("once") or "")[:40]
    with world.store.transaction():
        if token and (earlier := world.store.rows("SELECT answer FROM keys WHERE scope = 'page' AND key = ?", token)):
            return json.loads(earlier[0]["answer"])
        if id.startswith("order_"):
            done = orders.pay(world, id, **who)
            done["payment_id"] = done["razorpay_payment_id"]
        else:
            done = {"payment_id": payments.pay_qr(world, id, rupees_to_paise(form.get("amount", "")), **who)["id"]}
        if token:
            world.store.run("INSERT INTO keys VALUES ('page', ?, ?, ?)", token, id, json.dumps(done))
    return done


def _pay_page(world: World, id: str) -> Response:
    target = _payee(world, id)
    if target is None:
        return _html(404, page.message("No such QR code", "The sandbox does not know this QR code. Was its data removed?"))
    return _html(200, page.pay(world, target, {}, None))


def _paid_page(world: World, id: str) -> Response:
    payment = world.store.get("payment", id)
    if payment is None:
        return _html(404, page.message("No such payment", "The sandbox does not know this payment."))
    return _html(200, page.paid(world, payment))


def _payee(world: World, id: str) -> dict | None:
    qr_codes.expire(world)
    return world.store.get("qr_code", id) or world.store.get("order", id)


def _image(world: World, slug: str) -> Response:
    found = world.store.find("qr_code", {"_slug": slug}, count=1)
    if not found:
        return _html(404, page.message("No such QR code", "The sandbox does not know this QR code."))
    return Response(200, page.card(found[0]).encode(), "image/svg+xml")


def _set_moods(world: World, request: Request) -> Response:
    try:
        wanted = _form(request)
        if "json" not in request.headers.get("content-type", ""):
            raise Unreadable("send JSON")
        if wanted.pop("clear", False):
            world.moods.clear()
        world.moods.set(**wanted)
    except (Unreadable, moods.BadMood, TypeError) as refusal:
        return _json(400, {"error": str(refusal)})
    return _json(200, world.moods.all())


def _form(request: Request) -> dict:
    try:
        if "json" in request.headers.get("content-type", ""):
            read = json.loads(request.raw or b"{}", parse_float=Decimal if request.path.startswith("/pay/") else float)
            if not isinstance(read, dict):
                raise Unreadable("send a JSON object")
            return read
        return {name: values[-1] for name, values in parse_qs(request.raw.decode()).items()}
    except ValueError as error:
        raise Unreadable(f"what was sent cannot be read: {error}") from None


def _vpa(given: object) -> str | None:
    text = str(given or "").strip()
    if text and not re.fullmatch(r"[A-Za-z0-9._-]{2,80}@[A-Za-z0-9.]{2,30}", text):
        raise Unreadable("That is not a UPI ID. It looks like name@bank.")
    return text or None


def _contact(given: object) -> str | None:
    digits = re.sub(r"[\s()-]", "", str(given or ""))
    if not digits:
        return None
    if re.fullmatch(r"[6-9][0-9]{9}", digits):
        return f"+91{digits}"
    if re.fullmatch(r"\+[0-9]{8,15}", digits):
        return digits
    raise Unreadable("That is not a mobile number. Ten digits, please.")


def _from_here(world: World, request: Request) -> bool:
    """The name in Host must be this machine's (a rebound name is not), and a form's Origin must be this server."""
    host = request.headers.get("host", "")
    ours = urlsplit(world.url).netloc
    if host != ours and not loopback(urlsplit(f"//{host}").hostname or ""):
        return False
    origin = request.headers.get("origin")
    return request.method in ("GET", "HEAD") or origin is None or urlsplit(origin).netloc == host


def _html(status: int, text: str) -> Response:
    return Response(status, text.encode(), "text/html; charset=utf-8")


def _json(status: int, document: object) -> Response:
    return Response(status, json.dumps(document).encode())

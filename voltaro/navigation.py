"""The console's looks and its sidebar: the theme's settings (UNFOLD in voltaro/settings.py)."""

from typing import Any

from django.http import HttpRequest
from django.templatetags.static import static
from django.urls import reverse

# Title, symbol, model (its list in the admin) or the name of a page, query.
SIDEBAR: list[tuple[str, list[tuple[str, str, str, str]]]] = [
    ("", [("Home", "home", "admin:index", "")]),
    (
        "Network",
        [
            ("Chargers, live", "ev_station", "csms:chargers", ""),
            ("Stations", "location_on", "csms.Station", ""),
            ("Charge points", "electrical_services", "csms.ChargePoint", ""),
            ("Connectors", "power", "csms.Connector", ""),
            ("Alerts", "notification_important", "csms.Alert", "?open=yes"),
            ("Faults", "error", "csms.ChargerError", "?open=yes"),
            ("Root certificates", "workspace_premium", "csms.RootCertificate", ""),
            ("Onboarding", "sensors", "onboarding", ""),
            ("Quirk profiles", "tune", "csms.QuirkProfile", ""),
            ("Firmware", "system_update_alt", "csms:firmware", ""),
        ],
    ),
    (
        "Sessions",
        [
            ("Sessions", "bolt", "csms.ChargingSession", ""),
            ("Tags", "badge", "csms:tags", ""),
            ("Reservations", "event_available", "csms:reservations", ""),
            ("Permits", "receipt", "csms.IdTag", ""),
            ("Commands", "send", "csms.Command", ""),
            ("Batches", "playlist_add_check", "csms:batches", ""),
            ("Failures", "running_with_errors", "failures", ""),
            ("Held for review", "gavel", "held", ""),
            ("Exposure", "money_off", "exposure", ""),
            ("Kept for a person", "inventory_2", "kept", ""),
        ],
    ),
    (
        "Money",
        [
            ("Payments", "payments", "billing.QRPayment", ""),
            ("Refunds", "undo", "billing.Refund", ""),
            ("Bills", "receipt_long", "billing.Bill", ""),
            ("Tariffs", "sell", "billing.Tariff", ""),
            ("QR codes", "qr_code_2", "billing.QRCode", ""),
            ("Books", "menu_book", "billing.JournalEntry", ""),
            ("Differences", "difference", "billing.Difference", ""),
        ],
    ),
    (
        "Franchisees",
        [
            ("Franchisees", "storefront", "franchise.Franchisee", ""),
            ("Earnings", "account_balance_wallet", "franchise.CommissionLedgerEntry", ""),
            ("Payouts", "outbound", "franchise.Payout", ""),
        ],
    ),
    (
        "People",
        [
            ("People", "person", "accounts.User", ""),
            ("Companies", "business", "accounts.Company", ""),
            ("Roles", "key", "accounts.Membership", ""),
            ("API tokens", "vpn_key", "accounts.ApiToken", ""),
        ],
    ),
    (
        "Log",
        [
            ("Messages", "lan", "csms:messages", ""),
            ("Webhooks", "webhook", "billing.WebhookEvent", ""),
            ("Connections", "cable", "csms.Connection", ""),
            ("Security events", "shield", "csms.SecurityEvent", ""),
            ("Audit", "history", "accounts.AuditEntry", ""),
        ],
    ),
]


def sidebar(request: HttpRequest) -> list[dict[str, Any]]:
    """What this person may look at, in groups."""
    return [
        {"title": title, "separator": bool(title), "collapsible": False, "items": [i for row in rows if (i := _item(request, *row))]}
        for title, rows in SIDEBAR
    ]


def _item(request: HttpRequest, title: str, icon: str, place: str, query: str) -> dict[str, Any] | None:
    if "." not in place:
        return {"title": title, "icon": icon, "link": reverse(place), **_badge(request, place)}
    from django.apps import apps
    from django.contrib import admin

    model = apps.get_model(place)
    if not admin.site.is_registered(model) or not admin.site.get_model_admin(model).has_view_permission(request):
        return None
    return {"title": title, "icon": icon, "link": reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist") + query}


def _badge(request: HttpRequest, place: str) -> dict[str, Any]:
    """How many wait behind this link."""
    from voltaro import onboarding_pages

    number = onboarding_pages.waiting(request.user) if place == "onboarding" else 0
    return {"badge": number, "badge_variant": "warning"} if number else {}


UNFOLD: dict[str, Any] = {
    "SITE_TITLE": "Voltaro",
    "SITE_HEADER": "Voltaro",
    "SITE_SUBHEADER": "Operator's console",
    "SITE_URL": "/",
    "SITE_ICON": lambda request: static("img/favicon.svg"),
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("img/favicon.svg")}],
    "SHOW_HISTORY": False,
    "BORDER_RADIUS": "8px",
    "DASHBOARD_CALLBACK": "voltaro.console.home",
    "ENVIRONMENT": "voltaro.console.environment",
    "STYLES": [lambda request: static("css/console.css")],
    "SIDEBAR": {"show_search": True, "navigation": "voltaro.navigation.sidebar"},
    "COLORS": {
        "primary": {
            "50": "#effaf6",
            "100": "#d5f2e6",
            "200": "#aee4d0",
            "300": "#7ccfb4",
            "400": "#48b394",
            "500": "#23967a",
            "600": "#0b7560",
            "700": "#0b5d4b",
            "800": "#0c4b3e",
            "900": "#0b3e34",
            "950": "#04231e",
        },
    },
}

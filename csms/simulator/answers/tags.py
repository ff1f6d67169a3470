"""SendLocalList, GetLocalListVersion, ClearCache (OCPP 1.6 sections 5.15, 5.10, 5.4)."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from csms.simulator.charger import Charger

Payload = dict[str, Any]


def send_local_list(charger: Charger, call: Payload, now: datetime) -> Payload:
    settings = charger.configuration
    if not settings.on("LocalAuthListEnabled"):
        return {"status": "NotSupported"}
    status = charger.tags.local_list.update(
        call, per_message=settings.number("SendLocalListMaxLength"), in_all=settings.number("LocalAuthListMaxLength")
    )
    return {"status": status}


def get_local_list_version(charger: Charger, call: Payload, now: datetime) -> Payload:
    """-1: it has none; 0: it is empty."""
    return {"listVersion": charger.tags.local_list.version if charger.configuration.on("LocalAuthListEnabled") else -1}


def clear_cache(charger: Charger, call: Payload, now: datetime) -> Payload:
    if not charger.configuration.on("AuthorizationCacheEnabled"):
        return {"status": "Rejected"}
    charger.tags.cache.clear()
    return {"status": "Accepted"}

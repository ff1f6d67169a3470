"""A charger without a wire that shows something at the door: a key, TLS, a certificate.

charger = Keyed(network.kaveri_charger, key=OLD)
assert charger.comes(new_key) == "wrong_key"
assert charger.comes(key, tls=with_certificate(pem)) == ""
"""

import base64
from typing import Any

from csms import credentials, dispatch, entrance, stations
from csms.models import ChargePoint
from tests.charger import Charger

OLD = "0ddba11c" * 5
TLS: dict[str, Any] = {"client_cert_chain": [], "client_cert_name": None, "client_cert_error": None, "client_cert_sha256": ""}


def with_certificate(pem: str) -> dict[str, Any]:
    """What a proxy says of a client certificate it has found good."""
    return {**TLS, "client_cert_chain": [pem]}


def basic(user: str, key: str | bytes) -> bytes:
    raw = key if isinstance(key, bytes) else key.encode()
    return b"Basic " + base64.b64encode(user.encode() + b":" + raw)


class Keyed(Charger):
    """Its `refusal` says why the door stayed shut, empty when it came in (and booted)."""

    def __init__(self, row: ChargePoint, key: str = OLD, profile: int = 1, tls: dict[str, Any] | None = None, **boots: Any) -> None:
        stored = credentials.hashed(row.cp_id, key) if key else ""
        ChargePoint.objects.filter(pk=row.pk).update(credentials_hash=stored, security_profile=profile)
        self.key: str | bytes = key
        self.tls = tls
        self.boots = boots
        self.refusal = ""
        super().__init__(row)

    def connect(self) -> None:
        known = stations.find(self.row.cp_id)
        assert known is not None
        entry = entrance.look(known, basic(self.row.cp_id, self.key) if self.key else None, self.tls)
        self.refusal = entry.refusal
        if not self.refusal:
            how = {"process": "test", "channel": "specific.test!x", "remote_address": "127.0.0.1", "subprotocol": "ocpp1.6"}
            self.context, self.replaced = dispatch.opened(known, **how, entry=entry)
            self.booted = self.boot(**self.boots)

    def comes(self, key: str | bytes = "", tls: dict[str, Any] | None = None) -> str:
        """Connect anew with this: the refusal, empty when it came in."""
        self.key, self.tls = key, tls
        self.connect()
        return self.refusal

    def asked_for(self, action: str) -> tuple[str, dict[str, Any]] | None:
        """(message id, payload) of that call, when it is sent one now; what comes before it is answered as chargers do."""
        while (found := self.command()) is not None:
            unique_id, this, payload = found
            if this == action:
                return unique_id, payload
            self.accept(unique_id, {"configurationKey": []} if this == "GetConfiguration" else None)
        return None

    def setting_it_was_sent(self) -> tuple[str, str, str]:
        """(message id, key, value) of the ChangeConfiguration it gets."""
        found = self.command()
        assert found is not None, "it was sent nothing"
        unique_id, action, payload = found
        assert action == "ChangeConfiguration", found
        return unique_id, payload["key"], payload["value"]

    def key_it_was_sent(self) -> tuple[str, str]:
        """(message id, the new key) of the ChangeConfiguration it gets."""
        unique_id, key, value = self.setting_it_was_sent()
        assert key == "AuthorizationKey"
        return unique_id, value

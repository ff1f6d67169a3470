"""A charger without a wire: frames go straight to `dispatch.answer`, as a socket would hand them over.

charger = Charger(network.kaveri_charger)
charger.boot()
started = charger.start(tag=permit.tag, meter=1000)
charger.meter(1500, power=60_000)
charger.stop(2000)
"""

import json
from datetime import datetime, timedelta
from itertools import count
from typing import Any

from csms import dispatch, stations
from csms.context import Reply
from csms.models import ChargePoint
from csms.timestamps import write
from voltaro import clock


class Charger:
    def __init__(self, row: ChargePoint) -> None:
        self.row = row
        self.ids = count(1)
        self.transaction_id: int | None = None
        self.sent: list[Reply] = []
        self.connect()

    def connect(self) -> None:
        known = stations.find(self.row.cp_id)
        assert known is not None
        self.context, self.replaced = dispatch.opened(
            known,
            process="test",
            channel=f"specific.test!{self.row.pk}.{next(self.ids)}",
            remote_address="127.0.0.1",
            subprotocol="ocpp1.6",
        )

    def drop(self, code: int = 1006) -> None:
        dispatch.closed(self.context, code, "")

    def raw(self, frame: str | bytes) -> Any:
        """The answer to a raw frame, parsed; None when nothing is due."""
        reply = dispatch.answer(frame.encode() if isinstance(frame, str) else frame, self.context)
        if reply is None:
            return None
        self.sent.append(reply)
        return json.loads(reply.text)

    def call(self, action: str, payload: dict[str, Any] | None = None, ident: str | None = None) -> dict[str, Any]:
        """The payload of the CALLRESULT; an AssertionError for a CALLERROR."""
        answer = self.raw(json.dumps([2, ident or f"m{next(self.ids)}", action, payload or {}]))
        assert answer[0] == 3, answer
        return answer[2]

    def boot(self, **fields: Any) -> dict[str, Any]:
        return self.call(
            "BootNotification", {"chargePointVendor": "Acme", "chargePointModel": "Fast 60", "firmwareVersion": "1.0", **fields}
        )

    def status(self, status: str, connector: int = 1, error: str = "NoError", **fields: Any) -> dict[str, Any]:
        return self.call("StatusNotification", {"connectorId": connector, "status": status, "errorCode": error, **fields})

    def start(self, tag: str, meter: int = 0, connector: int = 1, at: datetime | None = None, **fields: Any) -> dict[str, Any]:
        payload = {"connectorId": connector, "idTag": tag, "meterStart": meter, "timestamp": write(at or clock.now()), **fields}
        answer = self.call("StartTransaction", payload)
        self.transaction_id = answer["transactionId"]
        return answer

    def meter(self, wh: int, power: int | None = None, connector: int = 1, at: datetime | None = None, **fields: Any) -> dict[str, Any]:
        samples = [{"value": str(wh)}]
        if power is not None:
            samples.append({"value": str(power), "measurand": "Power.Active.Import", "unit": "W"})
        value = {"timestamp": write(at or clock.now()), "sampledValue": samples}
        return self.call("MeterValues", {"connectorId": connector, "transactionId": self.transaction_id, "meterValue": [value], **fields})

    def stop(self, wh: int, reason: str = "Local", at: datetime | None = None, **fields: Any) -> dict[str, Any]:
        payload = {"transactionId": self.transaction_id, "meterStop": wh, "timestamp": write(at or clock.now()), "reason": reason, **fields}
        return self.call("StopTransaction", payload)

    def charge(self, start_wh: int, end_wh: int, power: int = 60_000, step_s: int = 10) -> None:
        """Readings from `start_wh` to `end_wh` at `power`, moving the clock as time would."""
        wh = start_wh
        while wh < end_wh:
            clock.shift(step_s)
            wh = min(end_wh, wh + power * step_s // 3600)
            self.meter(wh, power)

    def command(self) -> tuple[str, str, dict[str, Any]] | None:
        """The next command we are sent: (message id, action, payload)."""
        reply = dispatch.next_command(self.context)
        return tuple(json.loads(reply.text)[1:4]) if reply else None  # type: ignore[return-value]

    def asked(self, action: str) -> tuple[str, str, dict[str, Any]] | None:
        """The next command of this action; what we ask by ourselves before it is refused."""
        while (sent := self.command()) is not None and sent[1] != action:
            self.raw(json.dumps([4, sent[0], "InternalError", "not now", {}]))
        return sent

    def accept(self, unique_id: str, payload: dict[str, Any] | None = None) -> None:
        assert self.raw(json.dumps([3, unique_id, payload or {"status": "Accepted"}])) is None


def later(seconds: float) -> datetime:
    return clock.now() + timedelta(seconds=seconds)

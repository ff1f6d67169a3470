"""What monitoring asks: the fleet and the money as numbers, from a fixed number of bounded queries."""

from collections.abc import Iterable
from datetime import timedelta

from django.conf import settings
from django.db.models import Count, Sum
from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from accounts import failures
from billing import webhooks
from billing.models import Account, Posting, QRPayment, Refund, WebhookEvent
from csms import exposure
from csms.models import ChargePoint, ChargingSession, Command, SessionState
from voltaro import clock, failure_pages

OPEN_PAYMENTS = ["received", "starting", "charging", "ended", "refunding"]


def exposition() -> tuple[bytes, str]:
    """The body and the content type of /metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector())
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    def describe(self) -> Iterable[Metric]:
        return []

    def collect(self) -> Iterable[Metric]:
        now = clock.now()
        yield _by(
            "voltaro_chargers",
            "Chargers by presence.",
            "state",
            {
                ("online" if online else "offline"): n
                for online, n in ChargePoint.objects.values_list("online").annotate(Count("pk")).order_by()
            },
            ("online", "offline"),
        )
        silent = ChargePoint.objects.filter(online=True, last_seen__lt=now - timedelta(seconds=settings.HEARTBEAT_TIMEOUT_S)).count()
        yield _one("voltaro_chargers_silent", "Chargers counted as online that were not heard in time.", silent)
        live = ChargingSession.objects.exclude(state=SessionState.STOPPED)
        yield _by(
            "voltaro_sessions_live",
            "Sessions not yet ended, by state.",
            "state",
            dict(live.values_list("state").annotate(Count("pk")).order_by()),
            ("STARTED", "RUNNING", "SUSPENDED"),
        )
        unbilled = ChargingSession.objects.filter(state=SessionState.STOPPED, billed_at__isnull=True).count()
        yield _one("voltaro_sessions_unbilled", "Sessions ended and not yet billed.", unbilled)
        yield _by(
            "voltaro_payments_open",
            "Payments not yet settled, by state.",
            "state",
            dict(QRPayment.objects.filter(state__in=OPEN_PAYMENTS).values_list("state").annotate(Count("pk")).order_by()),
            OPEN_PAYMENTS,
        )
        yield _by(
            "voltaro_refunds_open",
            "Refunds that have not reached their end, by state.",
            "state",
            dict(Refund.objects.exclude(state="processed").values_list("state").annotate(Count("pk")).order_by()),
            ("due", "asking", "pending", "failed"),
        )
        newest = WebhookEvent.objects.order_by("-id").values("pk")[:1000]
        yield _by(
            "voltaro_webhook_events_newest",
            "The newest 1000 webhook events, by state.",
            "state",
            dict(WebhookEvent.objects.filter(pk__in=newest).values_list("state").annotate(Count("pk")).order_by()),
            ("new", "done", "ignored", "failed"),
        )
        yield _by(
            "voltaro_webhooks_refused", "Webhooks refused at the door, by reason.", "reason", webhooks.refused_counts(), webhooks.REFUSALS
        )
        windows = failures.counts(now)
        seen = GaugeMetricFamily("voltaro_failures", "Failures by mode, within the last hour, day and week.", labels=["mode", "window"])
        for mode, one in windows.items():
            for window, number in (("1h", one.hour), ("24h", one.day), ("7d", one.week)):
                seen.add_metric([mode, window], number)
        yield seen
        stands = failure_pages.standing(now)
        yield _by("voltaro_failures_standing", "Failures that stand at this moment, by mode.", "mode", stands, failure_pages.STANDING)
        unheard = exposure.look(now)
        yield _one("voltaro_sessions_unheard", "Prepaid sessions not heard of, or beyond what is paid.", unheard.unheard)
        yield _one("voltaro_sessions_exposed", "Sessions that may be taking more than is paid for.", unheard.exposed)
        yield _one("voltaro_exposure_wh", "What may be delivered beyond what is paid, unheard, Wh.", unheard.exposed_wh)
        # Read from the books: the account's own index, however many sessions there are.
        overrun = Posting.objects.filter(account=Account.OVERRUN_GIVEN).aggregate(n=Count("pk"), paise=Sum("amount_paise"))
        yield _one("voltaro_overruns", "Sessions that delivered more than was paid for.", overrun["n"])
        yield _one("voltaro_overrun_paise", "Energy given beyond what was paid for, paise.", overrun["paise"] or 0)
        yield _by(
            "voltaro_commands_open",
            "Commands to chargers without an end, by state.",
            "state",
            dict(Command.objects.filter(state__in=["queued", "sent", "unknown"]).values_list("state").annotate(Count("pk")).order_by()),
            ("queued", "sent", "unknown"),
        )


def _one(name: str, what: str, value: int) -> Metric:
    return GaugeMetricFamily(name, what, value=value)


def _by(name: str, what: str, label: str, counts: dict[str, int], always: Iterable[str]) -> Metric:
    """One gauge a label value; the expected ones are there even at zero, so that an alert never misses its series."""
    family = GaugeMetricFamily(name, what, labels=[label])
    for value in dict.fromkeys([*always, *counts]):
        family.add_metric([value], counts.get(value, 0))
    return family

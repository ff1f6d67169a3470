"""Fixtures of the stories about money."""

import pytest

from tests import money


@pytest.fixture
def sandbox(settings):
    """Razorpay, played on this machine; the product is pointed at it."""
    with money.start_sandbox() as running:
        settings.RAZORPAY_BASE_URL = running.url
        settings.RAZORPAY_KEY_ID, settings.RAZORPAY_KEY_SECRET = running.options.key_id, running.options.key_secret
        settings.RAZORPAY_WEBHOOK_SECRETS = [running.options.webhook_secret, "the-secret-before"]
        yield running


@pytest.fixture
def kaveri_qr(network, sandbox, bells):
    """Kaveri's connector, its charger online and its QR known to Razorpay."""
    return money.real_qr(network.kaveri_connector)

"""python -m billing.sandbox: a local Razorpay on this machine, until it is told to stop."""

import argparse
import logging
import os
import signal
import sys
import threading

from billing.sandbox import Options, Refused, Sandbox


def main() -> int:
    asked = _arguments()
    logging.basicConfig(level=logging.WARNING if asked.pop("quiet") else logging.INFO, format="%(asctime)s %(name)s %(message)s")
    try:
        sandbox = Sandbox(Options(**asked))
    except Refused as refusal:
        print(f"sandbox: {refusal}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"sandbox: cannot listen on {asked['host']}:{asked['port']}: {error.strerror}", file=sys.stderr)
        return 1
    ending = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: ending.set())
    print(f"Razorpay sandbox, no real money: {sandbox.url}", flush=True)
    ending.wait()
    sandbox.stop()
    return 0


def _arguments() -> dict:
    env, known = os.environ.get, Options()
    parser = argparse.ArgumentParser(prog="python -m billing.sandbox", description=__doc__)
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="this machine only: 127.0.0.1 (default) or ::1")
    add("--port", type=int, default=8100)
    add("--db", default="sandbox.sqlite3", help="the file that holds its memory")
    add("--webhook-url", default=env("RAZORPAY_WEBHOOK_URL", ""), help="where events are sent (RAZORPAY_WEBHOOK_URL)")
    add(
        "--webhook-secret",
        default=env("RAZORPAY_WEBHOOK_SECRET", known.webhook_secret),
        help="current[,previous] (RAZORPAY_WEBHOOK_SECRET)",
    )
    add("--key-id", default=env("RAZORPAY_KEY_ID", known.key_id), help="(RAZORPAY_KEY_ID)")
    add("--key-secret", default=env("RAZORPAY_KEY_SECRET", known.key_secret), help="(RAZORPAY_KEY_SECRET)")
    add("--public-url", default="", help="the address people see in links; default: where it listens")
    add("--rider-url-template", default="", help="link back after paying, e.g. http://127.0.0.1:8000/c/{code}/ (keys of the QR's notes)")
    add(
        "--auto-accounts",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="take any well-formed acc_ id for an active linked account",
    )
    add("--opening-balance", type=int, default=known.opening_balance, help="paise, in a new file")
    add("--refund-delay-s", type=float, default=known.refund_delay_s)
    add("--transfer-delay-s", type=float, default=known.transfer_delay_s)
    add("--activation-delay-s", type=float, default=known.activation_delay_s)
    add("--settle-after-s", type=float, default=known.settle_after_s)
    add("--retry-scale", type=float, default=1.0, help="0.001: the 24 hours of webhook retries last 86 seconds")
    add("--seed", type=int, default=None, help="make ids and disorder repeat themselves")
    add("--quiet", action="store_true", help="log trouble only")
    return vars(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())

"""manage.py check_books: prove that the books balance; exit 1 when they do not."""

import json
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from billing import ledger
from billing.models import Account, JournalEntry, QRPayment
from franchise import books


class Command(BaseCommand):
    help = (
        "Every entry balances; for every payment paid = billed + refunded + held; for every franchisee owed = shared - paid out. "
        "Exit code 1 when anything is wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print facts as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        problems = [*ledger.check(), *books.check()]
        balances = {account.value: ledger.balance(account) for account in Account}
        entries, payments = JournalEntry.objects.count(), QRPayment.objects.count()
        if options["json"]:
            facts = {"ok": not problems, "problems": problems, "entries": entries, "payments": payments, "balances_paise": balances}
            self.stdout.write(json.dumps(facts, indent=2))
        else:
            for account, paise in balances.items():
                if paise:
                    self.stdout.write(f"{account:22} {paise:>16} paise")
            for problem in problems:
                self.stderr.write(self.style.ERROR(problem))
            right = self.style.SUCCESS("The books are right.")
            self.stdout.write(f"{entries} entries, {payments} payments. {right if not problems else f'{len(problems)} problems.'}")
        if problems:
            sys.exit(1)

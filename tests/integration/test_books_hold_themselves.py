"""The database refuses wrong books, whoever writes them."""

import pytest
from django.db import DatabaseError, transaction

from billing.models import JournalEntry, Posting


def _entry(*amounts: int) -> JournalEntry:
    with transaction.atomic():
        entry = JournalEntry.objects.create(key=f"test:{amounts}", digest="-")
        for amount in amounts:
            Posting.objects.create(entry=entry, account="clearing", amount_paise=amount)
    return entry


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("amounts", [(100,), (100, -99), ()])
def test_an_entry_that_does_not_balance_is_refused(amounts):
    with pytest.raises(DatabaseError):
        _entry(*amounts)


@pytest.mark.django_db(transaction=True)
def test_an_entry_is_never_changed():
    entry = _entry(100, -100)
    for attempt in (
        lambda: Posting.objects.filter(entry=entry).update(amount_paise=5),
        lambda: Posting.objects.filter(entry=entry).delete(),
        lambda: JournalEntry.objects.filter(pk=entry.pk).update(memo="other"),
    ):
        with pytest.raises(DatabaseError), transaction.atomic():
            attempt()

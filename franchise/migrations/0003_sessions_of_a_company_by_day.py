"""The portal lists a company's sessions by day. Without this index an empty day is found by reading all of history."""

from django.db import migrations

DO = "CREATE INDEX IF NOT EXISTS session_company_day ON csms_chargingsession (company_id, start_time DESC, id DESC)"
UNDO = "DROP INDEX IF EXISTS session_company_day"


class Migration(migrations.Migration):
    dependencies = [("franchise", "0002_shares_that_wait_and_accounts_that_are_asked"), ("csms", "0002_sequence_and_triggers")]
    operations = [migrations.RunSQL(DO, UNDO)]

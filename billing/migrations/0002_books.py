"""The books hold themselves: every entry balances at commit, and nothing in them is ever changed."""

from django.db import migrations

DO = """
CREATE FUNCTION voltaro_entry_balances() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  entry bigint := CASE WHEN TG_TABLE_NAME = 'billing_posting' THEN (to_jsonb(NEW)->>'entry_id')::bigint ELSE (to_jsonb(NEW)->>'id')::bigint END;
  total numeric;
  sides integer;
BEGIN
  SELECT coalesce(sum(amount_paise), 0), count(*) INTO total, sides FROM billing_posting WHERE entry_id = entry;
  IF sides < 2 OR total <> 0 THEN
    RAISE EXCEPTION 'journal entry % has % postings that sum to %', entry, sides, total USING ERRCODE = 'check_violation';
  END IF;
  RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER balances AFTER INSERT ON billing_posting DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION voltaro_entry_balances();
CREATE CONSTRAINT TRIGGER not_empty AFTER INSERT ON billing_journalentry DEFERRABLE INITIALLY DEFERRED
  FOR EACH ROW EXECUTE FUNCTION voltaro_entry_balances();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_posting FOR EACH ROW EXECUTE FUNCTION voltaro_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON billing_posting FOR EACH STATEMENT EXECUTE FUNCTION voltaro_append_only();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON billing_journalentry FOR EACH ROW EXECUTE FUNCTION voltaro_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON billing_journalentry FOR EACH STATEMENT EXECUTE FUNCTION voltaro_append_only();
"""
UNDO = """
DROP TRIGGER append_only ON billing_posting;
DROP TRIGGER append_only_truncate ON billing_posting;
DROP TRIGGER append_only ON billing_journalentry;
DROP TRIGGER append_only_truncate ON billing_journalentry;
DROP TRIGGER not_empty ON billing_journalentry;
DROP TRIGGER balances ON billing_posting;
DROP FUNCTION voltaro_entry_balances();
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("accounts", "0002_append_only")]
    operations = [migrations.RunSQL(DO, UNDO)]

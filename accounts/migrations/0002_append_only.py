"""Append-only tables: a function that refuses, and its use on the audit entries.

TRUNCATE is refused too, but for a test's own database, which empties its tables between tests.
"""

from django.db import migrations

REFUSE = """
CREATE FUNCTION voltaro_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'TRUNCATE' AND current_setting('voltaro.allow_truncate', true) = 'on' THEN
    RETURN NULL;
  END IF;
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE ON accounts_auditentry
  FOR EACH ROW EXECUTE FUNCTION voltaro_append_only();
CREATE TRIGGER append_only_truncate BEFORE TRUNCATE ON accounts_auditentry
  FOR EACH STATEMENT EXECUTE FUNCTION voltaro_append_only();
"""
UNDO = """
DROP TRIGGER append_only ON accounts_auditentry;
DROP TRIGGER append_only_truncate ON accounts_auditentry;
DROP FUNCTION voltaro_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]
    operations = [migrations.RunSQL(REFUSE, UNDO)]

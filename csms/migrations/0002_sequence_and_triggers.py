"""The one sequence of OCPP 1.6 transaction ids (docs/decisions/0003), and frames that are never changed."""

from django.db import migrations

DO = """
CREATE SEQUENCE csms_transaction_id AS integer MINVALUE 1 START 1 NO CYCLE;
CREATE TRIGGER unchanged BEFORE UPDATE ON csms_ocppmessage
  FOR EACH ROW EXECUTE FUNCTION voltaro_append_only();
"""
UNDO = "DROP TRIGGER unchanged ON csms_ocppmessage; DROP SEQUENCE csms_transaction_id;"


class Migration(migrations.Migration):
    dependencies = [("csms", "0001_initial"), ("accounts", "0002_append_only")]
    operations = [migrations.RunSQL(DO, UNDO)]

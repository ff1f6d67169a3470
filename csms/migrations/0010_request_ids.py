"""One sequence of the numbers we give to chargers besides transaction ids: reservations, profiles, requests with an id."""

from django.db import migrations

DO = "CREATE SEQUENCE csms_request_id AS integer MINVALUE 1 START 1 NO CYCLE;"
UNDO = "DROP SEQUENCE csms_request_id;"


class Migration(migrations.Migration):
    dependencies = [("csms", "0009_the_whole_of_ocpp_16")]
    operations = [migrations.RunSQL(DO, UNDO)]

"""The numbers we give to chargers besides transaction ids: reservationId, chargingProfileId, requestId."""

from django.db import connection


def next_request_id() -> int:
    """One sequence for all chargers and kinds: positive int32, never used twice."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval('csms_request_id')")
        return int(cursor.fetchone()[0])

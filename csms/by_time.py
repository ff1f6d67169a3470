"""A stretch of time as a stretch of ids, for tables that only grow: their ids follow time, their times have no index worth asking.

The BRIN on a frame's `at` is as long as the table and knows nothing of its newest pages until they are summarized, and
min(id) under a condition on a time walks the table from its beginning. Halving the ids reads thirty rows by their key.
"""

from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.db.models import DateTimeField, ExpressionWrapper, F, Model, QuerySet, Value

# A row may be written later than its time, by as long as the database was away.
DISORDER = timedelta(minutes=2)

_IDS = """
WITH RECURSIVE near(n, moment, low, high) AS (
  SELECT w.n, w.moment, (SELECT min(id) FROM {table}), (SELECT max(id) FROM {table}) + 1
  FROM unnest(%s::timestamptz[]) WITH ORDINALITY AS w(moment, n)
  UNION ALL
  SELECT near.n, near.moment,
    CASE WHEN m.at < near.moment THEN m.id + 1 ELSE near.low END,
    CASE WHEN m.at < near.moment THEN near.high ELSE (near.low + near.high) / 2 END
  FROM near CROSS JOIN LATERAL (
    SELECT id, {column} AS at FROM {table} WHERE id >= (near.low + near.high) / 2 ORDER BY id LIMIT 1
  ) m
  WHERE near.low < near.high
)
SELECT max(low) FROM near GROUP BY n ORDER BY n"""


def between(rows: QuerySet[Any], since: datetime, until: datetime | None, column: str = "at") -> QuerySet[Any]:
    """The rows of a stretch of time (`until` excluded; None: to this day); asks for the ids at once."""
    first, beyond = ids_between(rows.model, since, until, column)
    # "+ 0": on the column itself the planner would ask the BRIN besides, and read its whole length for nothing.
    rows = rows.filter(pk__gte=first).alias(when=ExpressionWrapper(F(column) + Value(timedelta(0)), DateTimeField()))
    rows = rows.filter(when__gte=since)
    return rows if until is None else rows.filter(pk__lt=beyond, when__lt=until)


def ids_near(model: type[Model], moments: list[datetime], column: str = "at") -> list[tuple[int, int]]:
    """For each moment the first id around it and the first beyond, both padded by DISORDER; one query for all of them."""
    edges = [moment + pad for moment in moments for pad in (-DISORDER, DISORDER)]
    with connection.cursor() as cursor:
        cursor.execute(_IDS.format(table=model._meta.db_table, column=column), [edges])
        found = [low or 0 for (low,) in cursor.fetchall()]
    return list(zip(found[::2], found[1::2], strict=True))


def ids_between(model: type[Model], since: datetime, until: datetime | None, column: str = "at") -> tuple[int, int]:
    """The first id of `since` or later, and the first beyond `until`, both padded by DISORDER; (1, 0) of an empty table."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(_IDS.format(table=table, column=column), [[since - DISORDER, (until or since) + DISORDER]])
        (first,), (beyond,) = cursor.fetchall()
    return (first, beyond) if first is not None else (1, 0)

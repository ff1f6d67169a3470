"""Everything the sandbox remembers, in one SQLite file (or in memory): entities, money, keys, events, what is to be done.

One connection behind one lock: a sandbox has one merchant and little to do, and nothing here may be half done.
"""

import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager

SCHEMA = """
CREATE TABLE IF NOT EXISTS entities (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL, created_at INTEGER NOT NULL, doc TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS entities_kind ON entities (kind, seq);
CREATE INDEX IF NOT EXISTS entities_payment ON entities (json_extract(doc, '$.payment_id')) WHERE kind = 'refund';
CREATE INDEX IF NOT EXISTS entities_qr ON entities (json_extract(doc, '$._qr_id')) WHERE kind = 'payment';
CREATE TABLE IF NOT EXISTS money (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, at INTEGER NOT NULL, kind TEXT NOT NULL, ref TEXT NOT NULL, amount INTEGER NOT NULL,
    credit INTEGER NOT NULL, debit INTEGER NOT NULL, fee INTEGER NOT NULL, tax INTEGER NOT NULL, payment_id TEXT, settlement_id TEXT);
CREATE INDEX IF NOT EXISTS money_settlement ON money (settlement_id);
CREATE TABLE IF NOT EXISTS keys (
    scope TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, answer TEXT, PRIMARY KEY (scope, key)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS deliveries (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, event_id TEXT NOT NULL, event TEXT NOT NULL, body BLOB NOT NULL, signature TEXT NOT NULL,
    created_at REAL NOT NULL, due_at REAL NOT NULL, state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    answer TEXT NOT NULL DEFAULT '');
CREATE INDEX IF NOT EXISTS deliveries_due ON deliveries (due_at) WHERE state = 'waiting';
CREATE TABLE IF NOT EXISTS todo (seq INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, what TEXT NOT NULL, ref TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""


class Store:
    def __init__(self, path: str):
        self.lock = threading.RLock()
        self._depth = 0
        self.db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=10)
        self.db.row_factory = sqlite3.Row
        self.db.execute("PRAGMA journal_mode=WAL")
        self.db.execute("PRAGMA synchronous=NORMAL")
        self.db.executescript(SCHEMA)
        # A key whose work was cut off by the end of the process: nothing was committed, so it is free again.
        self.db.execute("DELETE FROM keys WHERE answer IS NULL")

    def close(self) -> None:
        with self.lock:
            self.db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing; one inside another is part of it."""
        with self.lock:
            if self._depth == 0:
                self.db.execute("BEGIN IMMEDIATE")
            self._depth += 1
            try:
                yield
            except BaseException:
                if self._depth == 1:
                    self.db.execute("ROLLBACK")
                raise
            else:
                if self._depth == 1:
                    self.db.execute("COMMIT")
            finally:
                self._depth -= 1

    def rows(self, sql: str, *values: object) -> list[sqlite3.Row]:
        with self.lock:
            return self.db.execute(sql, values).fetchall()

    def run(self, sql: str, *values: object) -> int:
        with self.lock:
            return self.db.execute(sql, values).rowcount

    # -- entities: a document each; names that begin with _ never leave the sandbox -----------------------------

    def add(self, kind: str, doc: dict) -> dict:
        self.run(
            "INSERT INTO entities (id, kind, created_at, doc) VALUES (?, ?, ?, ?)", doc["id"], kind, doc["created_at"], json.dumps(doc)
        )
        return doc

    def save(self, doc: dict) -> dict:
        self.run("UPDATE entities SET doc = ? WHERE id = ?", json.dumps(doc), doc["id"])
        return doc

    def get(self, kind: str, id: str) -> dict | None:
        found = self.rows("SELECT doc FROM entities WHERE kind = ? AND id = ?", kind, id)
        return json.loads(found[0]["doc"]) if found else None

    def find(
        self, kind: str, where: dict | None = None, *, since: int | None = None, until: int | None = None, count: int = -1, skip: int = 0
    ) -> list[dict]:
        """Newest first."""
        sql, values = "SELECT doc FROM entities WHERE kind = ?", [kind]
        for name, value in (where or {}).items():
            sql += f" AND json_extract(doc, '$.{name}') = ?"  # names come from this package only
            values.append(value)
        if since is not None:
            sql, values = sql + " AND created_at >= ?", [*values, since]
        if until is not None:
            sql, values = sql + " AND created_at <= ?", [*values, until]
        found = self.rows(sql + " ORDER BY seq DESC LIMIT ? OFFSET ?", *values, count, skip)
        return [json.loads(row["doc"]) for row in found]

    # -- money: one line per movement of the merchant's balance, paise -----------------------------------------

    def move(
        self, at: int, kind: str, ref: str, amount: int, *, credit: int = 0, debit: int = 0, fee: int = 0, tax: int = 0, payment_id=None
    ) -> None:
        sql = "INSERT INTO money (at, kind, ref, amount, credit, debit, fee, tax, payment_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        self.run(sql, at, kind, ref, amount, credit, debit, fee, tax, payment_id)

    def balance(self) -> int:
        return self.rows("SELECT COALESCE(SUM(credit - debit), 0) AS paise FROM money")[0]["paise"]

    # -- facts -------------------------------------------------------------------------------------------------

    def fact(self, name: str) -> object | None:
        found = self.rows("SELECT value FROM facts WHERE name = ?", name)
        return json.loads(found[0]["value"]) if found else None

    def set_fact(self, name: str, value: object) -> None:
        self.run("INSERT INTO facts VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", name, json.dumps(value))

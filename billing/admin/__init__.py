"""The money in the console: read, searched and followed. Nothing here is edited by hand; a few deeds have their own actions."""

from billing.admin import bills, books, payments

__all__ = ["bills", "books", "payments"]

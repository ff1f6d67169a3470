"""A walk through the product's pages by their own links, as somebody who is signed in.

    seen = crawl(client, ["/admin/"])
    assert seen.bad() == {} and not seen.missed("console/")

Every address that stands in a page as an attribute is visited (links, forms, what refreshes itself), some of each kind: a hundred
frames' pages are one kind. Forms that only take POST answer 405, which is an answer.
"""

import re
import warnings
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import unescape
from urllib.parse import urlsplit

from django.http import HttpResponseBase
from django.test import Client
from django.urls import Resolver404, URLPattern, URLResolver, get_resolver, resolve

_ADDRESS = re.compile(r"""=\s*["'](/[^"'\s<>]*|\?[^"'\s<>]*)["']""")
GOOD = {200, 302, 304, 405}


@dataclass
class Seen:
    """What was visited: (status, body) by address, and the route of each."""

    pages: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    routes: Counter[str] = field(default_factory=Counter)
    from_page: dict[str, str] = field(default_factory=dict)

    def bad(self) -> dict[str, tuple[int, str]]:
        """Addresses that stand in our own pages and lead nowhere, or to a mistake; with the page that named them."""
        return {path: (status, self.from_page.get(path, "")) for path, (status, _) in self.pages.items() if status not in GOOD}

    def holding(self, text: str) -> list[str]:
        """The addresses whose pages hold this text, in either case."""
        wanted = text.casefold().encode()
        return [path for path, (_, body) in self.pages.items() if wanted in body.lower()]

    def missed(self, prefix: str) -> set[str]:
        """Routes below `prefix` that were never visited."""
        return {route for route in routes(prefix) if route not in self.routes}


def routes(prefix: str = "") -> set[str]:
    """Every route of the product, as it is written in its urls."""

    def below(resolver: URLResolver, before: str) -> Iterable[str]:
        for one in resolver.url_patterns:
            route = before + str(one.pattern)
            if isinstance(one, URLPattern):
                yield route
            else:
                yield from below(one, route)

    return {route for route in below(get_resolver(), "") if route.startswith(prefix)}


def crawl(
    client: Client,
    starts: Iterable[str],
    *,
    within: tuple[str, ...] = ("/admin/", "/console/"),
    of_a_kind: int = 8,
    leave: tuple[str, ...] = ("/sign-out", "/admin/logout", "/admin/jsi18n", "/admin/autocomplete"),
) -> Seen:
    """Visit what these pages lead to, and on; at most `of_a_kind` addresses of one route, whatever their parameters."""
    seen, kinds = Seen(), Counter()
    client.raise_request_exception = False  # a mistake is a page like any other, and counted in the end
    waiting = deque((path, "") for path in starts)
    while waiting:
        path, named_by = waiting.popleft()
        split = urlsplit(path)
        if path in seen.pages or split.path.startswith(leave):
            continue
        try:
            route = resolve(split.path).route
        except Resolver404:
            route = split.path
        if kinds[route] >= of_a_kind:
            continue
        kinds[route] += 1
        answer = client.get(path)
        whole = body(answer)
        seen.pages[path], seen.from_page[path] = (answer.status_code, whole), named_by
        seen.routes[route] += 1
        if answer.status_code == 302:
            waiting.append((answer.headers["Location"], path))
        if "text/html" not in answer.headers.get("Content-Type", "") or answer.status_code != 200:
            continue
        for found in dict.fromkeys(_ADDRESS.findall(whole.decode("utf-8", "replace"))):
            address = unescape(found).partition("#")[0]
            address = split.path + address if address.startswith("?") else address
            if address.startswith(within):
                waiting.append((address, path))
    return seen


def body(answer: HttpResponseBase) -> bytes:
    """All of an answer, also of one that leaves in pieces."""
    if not answer.streaming:
        return answer.content
    with warnings.catch_warnings():  # a file that leaves piece by piece is made for an asynchronous server
        warnings.simplefilter("ignore")
        return b"".join(answer)

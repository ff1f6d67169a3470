"""What the console pages of this package share."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render

from voltaro import clock


def page(request: HttpRequest, template: str, title: str, **context: Any) -> HttpResponse:
    """A page in the console's frame; its templates know `title` and `now`."""
    return render(request, template, {**admin.site.each_context(request), "title": title, "now": clock.now(), **context})

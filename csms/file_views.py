"""The two addresses chargers use for files: they fetch firmware from one and send diagnostics and logs to the other.

A signed name is all the key there is (csms/files.py). Nothing is parsed, listed or shown here.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from io import SEEK_END
from typing import Any

from django.core.cache import cache
from django.core.files import File
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.http.multipartparser import MultiPartParserError
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from accounts.actor import acting
from csms import files, firmware, uploads
from csms.rules import byte_range
from voltaro import clock

# One address, in an hour: a charger that tries again does not come more often.
UPLOADS_AN_HOUR = 20


@require_safe
def fetch_firmware(request: HttpRequest, name: str) -> HttpResponseBase:
    """The image of one update, to its one charger, while the update is open: in parts, if the modem likes."""
    now = clock.now()
    update = firmware.by_name(name, now)
    if update is None:
        raise Http404
    with acting("charger", update.charge_point.cp_id):
        if request.method == "GET":
            firmware.fetched(update, whole=False, now=now)
        return served(
            request,
            update.image.file,
            etag=update.image.sha256,
            content_type="application/octet-stream",
            whole=lambda: _fetched_whole(update),
        )


def _fetched_whole(update: Any) -> None:
    with acting("charger", update.charge_point.cp_id):
        firmware.fetched(update, whole=True, now=clock.now())


@csrf_exempt
def take_upload(request: HttpRequest, name: str) -> HttpResponse:
    """A file a charger was asked for: the body of a PUT or POST, or the first file of a form. The newest counts."""
    named = files.read_name(files.UPLOADS, name)
    if named is None:
        raise Http404
    if request.method not in ("PUT", "POST"):
        return _said("PUT or POST a file here.", 405, Allow="PUT, POST")
    if "Content-Range" in request.headers:  # RFC 9110 §14.5: what does not know it must not take a part for the whole
        return _said("A whole file, please.", 400)
    now = clock.now()
    upload = uploads.open_for(named.pk, now) if now < named.expires_at else None
    if upload is None:
        return _said("This address is no longer good.", 410)
    if not _in_time(named.pk):
        return _said("Too often.", 429, **{"Retry-After": "600"})
    with acting("charger", upload.charge_point.cp_id):
        try:
            stream, told = _body(request)
            uploads.receive(upload.pk, stream, told or named.rest.strip("/"), now)
        except (MultiPartParserError, uploads.Empty):
            return _said("There is no file in it.", 400)
        except uploads.Closed:
            return _said("This address is no longer good.", 410)
        except files.TooLarge:
            uploads.too_large(upload.pk, now)
            return _said("Too large.", 413)
        except files.NoRoom:
            return _said("No room just now.", 507, **{"Retry-After": "3600"})
    return _said("Thank you.", 200)


def _body(request: HttpRequest) -> tuple[Any, str]:
    """The file as a stream, and what the charger calls it. Django has the body on disk; only a form is looked into."""
    if request.content_type != "multipart/form-data":
        return request, ""
    meta = request.META
    if not meta.get("CONTENT_LENGTH") and (stream := request._stream).seekable():  # sent in chunks; Django's parser wants a length
        meta = {**meta, "CONTENT_LENGTH": stream.seek(0, SEEK_END)}
        stream.seek(0)
    _, found = request.parse_file_upload(meta, request)
    first = next(iter(found.values()), None)
    if first is None:
        raise uploads.Empty
    return first, first.name or ""


def _in_time(pk: int) -> bool:
    key = f"upload:{pk}"
    try:
        cache.add(key, 0, 3600)
        return cache.incr(key) <= UPLOADS_AN_HOUR
    except Exception:  # without Redis a charger's file is worth more than the count
        return True


def _said(text: str, status: int, **headers: str) -> HttpResponse:
    return HttpResponse(text + "\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)


# -- sending a file -----------------------------------------------------------------------------------------------------
def served(
    request: HttpRequest,
    file: Any,
    *,
    etag: str,
    content_type: str,
    whole: Callable[[], None] | None = None,
) -> HttpResponseBase:
    """A stored file, or the part asked for, in pieces; `whole` is called once its last byte went out. 404 when it is gone."""
    try:
        stream, size = file.storage.open(file.name, "rb"), file.size
    except FileNotFoundError:
        raise Http404
    tag = f'"{etag}"'
    headers = {"ETag": tag, "Accept-Ranges": "bytes", "Cache-Control": "private, no-transform"}
    try:
        part = byte_range.read(request.headers.get("Range", ""), size) if request.headers.get("If-Range", tag) == tag else None
    except byte_range.Unsatisfiable:
        stream.close()
        return HttpResponse(status=416, headers={**headers, "Content-Range": f"bytes */{size}"})
    first, last = part or (0, size - 1)
    if part:
        headers["Content-Range"] = f"bytes {first}-{last}/{size}"
    headers["Content-Length"] = str(last - first + 1)
    status = 206 if part else 200
    if request.method == "HEAD":
        stream.close()
        return HttpResponse(status=status, content_type=content_type, headers=headers)
    at_the_end = whole if last == size - 1 else None
    return Sent(stream, first, last - first + 1, at_the_end, status=status, content_type=content_type, headers=headers)


class Sent(StreamingHttpResponse):
    """A stream on its way out. Under ASGI a plain file response would be read into memory whole."""

    def __init__(self, stream: File, first: int, length: int, whole: Callable[[], None] | None, **kwargs: Any) -> None:
        self.whole, self.done = whole, False
        super().__init__(self._pieces(stream, first, length), **kwargs)

    async def _pieces(self, stream: File, first: int, length: int) -> AsyncIterator[bytes]:
        with stream:
            stream.seek(first)
            while length and (piece := await asyncio.to_thread(stream.read, min(length, files.CHUNK_BYTES))):
                length -= len(piece)
                yield piece
        self.done = length == 0

    def close(self) -> None:
        """Called by Django when all was sent, and not when the line was lost on the way."""
        if self.done and self.whole is not None:
            self.whole()
        super().close()

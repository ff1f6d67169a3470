"""Firmware images the operator keeps for chargers: stored as they came, known by their digest, never looked into."""

import base64
import binascii
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from accounts import audit
from csms import files
from csms.models import FirmwareImage

# What a charger can be given of them (security whitepaper, FirmwareType).
MOST_SIGNATURE, MOST_CERTIFICATE = 800, 5500


def add(
    stream: Any,
    *,
    file_name: str,
    name: str,
    version: str,
    vendor: str = "",
    model: str = "",
    signature: str = "",
    signing_certificate: str = "",
) -> FirmwareImage:
    """Keep an image. Its name keeps the ending that chargers go by. Raises ValidationError with a sentence."""
    signature, signing_certificate = "".join(signature.split()), signing_certificate.strip().replace("\r\n", "\n")
    _check(version, signature, signing_certificate)
    try:
        stored = files.store(stream, files.FIRMWARE, settings.MAX_FIRMWARE_BYTES, files.extension(file_name))
    except files.TooLarge:
        raise ValidationError(f"The file is larger than {settings.MAX_FIRMWARE_BYTES // 1024 // 1024} MiB.")
    except files.NoRoom:
        raise ValidationError("The disk has no room for it.")
    try:
        if not stored.size_bytes:
            raise ValidationError("The file is empty.")
        with transaction.atomic():
            image = FirmwareImage.objects.create(
                name=name.strip() or file_name,
                version=version.strip(),
                vendor=vendor.strip(),
                model=model.strip(),
                file=stored.name,
                sha256=stored.sha256,
                size_bytes=stored.size_bytes,
                signature=signature,
                signing_certificate=signing_certificate,
            )
            seen = {"version": image.version, "sha256": image.sha256, "size_bytes": image.size_bytes, "signed": bool(signature)}
            audit.record("firmware_image.added", image, after=seen)
    except IntegrityError:
        files.delete(stored.name)
        raise ValidationError(f"The same file is kept already: {FirmwareImage.objects.get(sha256=stored.sha256)}.")
    except BaseException:
        files.delete(stored.name)
        raise
    return image


def remove(image: FirmwareImage) -> None:
    """Forget an image no update was ever made with. Raises ValidationError when one was: it is part of that record."""
    try:
        with transaction.atomic():
            audit.record("firmware_image.removed", image, before={"version": image.version, "sha256": image.sha256})
            gone = image.file.name
            image.delete()
            transaction.on_commit(lambda: files.delete(gone))
    except ProtectedError:
        raise ValidationError(f"{image} has been sent to chargers: it stays.")


def _check(version: str, signature: str, certificate: str) -> None:
    if not version.strip():
        raise ValidationError("A version is needed: a boot is compared with it.")
    if bool(signature) != bool(certificate):
        raise ValidationError("A signature and its certificate belong together.")
    if not signature:
        return
    try:
        base64.b64decode(signature, validate=True)
    except (binascii.Error, ValueError):
        raise ValidationError("The signature is not Base64.")
    if len(signature) > MOST_SIGNATURE or len(certificate) > MOST_CERTIFICATE:
        raise ValidationError(f"A charger can be given {MOST_SIGNATURE} characters of signature and {MOST_CERTIFICATE} of certificate.")
    if not (certificate.startswith("-----BEGIN CERTIFICATE-----") and certificate.endswith("-----END CERTIFICATE-----")):
        raise ValidationError("The certificate is not PEM.")

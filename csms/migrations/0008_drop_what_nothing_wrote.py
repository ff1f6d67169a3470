"""Reservations and firmware updates are made anew by the next migration: nothing has written one yet."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("csms", "0007_charge_point_online")]
    operations = [
        migrations.DeleteModel(name="Reservation"),
        migrations.DeleteModel(name="FirmwareUpdate"),
    ]

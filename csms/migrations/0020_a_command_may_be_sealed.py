from typing import Any

from django.db import migrations, models

from csms.rules.secrecy import MASK, concealed, is_secret, masked


def conceal(apps: Any, schema_editor: Any) -> None:
    """What is a secret by its name now, and was kept as it came until now."""
    keys = apps.get_model("csms", "ConfigurationKey").objects.exclude(value=None, wanted=None)
    names = [name for name in keys.order_by().values_list("key", flat=True).distinct() if is_secret(name)]
    keys.filter(key__in=names).update(value=None, wanted=None, wanted_by="", state="reported", next_try_at=None, attempts=0, error="")
    commands = apps.get_model("csms", "Command").objects.filter(action__in=["ChangeConfiguration", "GetConfiguration", "DataTransfer"])
    for row in commands.only("action", "payload", "response", "state").iterator(chunk_size=500):
        payload, response = concealed(row.action, row.payload), masked(row.response)
        if row.state != "queued" and (payload, response) != (row.payload, row.response):  # what still waits is sent as it is
            type(row).objects.filter(pk=row.pk).update(payload=payload, response=response)
    for row in apps.get_model("csms", "CommandBatch").objects.filter(action__in=["ChangeConfiguration", "DataTransfer"]).iterator():
        if (payload := concealed(row.action, row.payload)) != row.payload:
            assert MASK in str(payload)
            type(row).objects.filter(pk=row.pk).update(payload=payload)


class Migration(migrations.Migration):
    dependencies = [("csms", "0019_what_is_billed_of_a_session")]

    operations = [
        migrations.AddField("command", "sealed", models.TextField(blank=True, default="", editable=False), preserve_default=False),
        migrations.RunPython(conceal, migrations.RunPython.noop),
    ]

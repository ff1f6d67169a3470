from django.contrib.postgres.indexes import BrinIndex
from django.db import migrations


class Migration(migrations.Migration):
    """Without it the newest page ranges wait for a vacuum, a fifth of the table at worst, and every look by time reads them all."""

    dependencies = [("csms", "0005_register_at")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveIndex(model_name="ocppmessage", name="message_at"),
                migrations.AddIndex(
                    model_name="ocppmessage",
                    index=BrinIndex(autosummarize=True, fields=["at"], name="message_at", pages_per_range=32),
                ),
            ],
            database_operations=[
                migrations.RunSQL(
                    "ALTER INDEX message_at SET (autosummarize = on); SELECT brin_summarize_new_values('message_at');",
                    "ALTER INDEX message_at SET (autosummarize = off);",
                )
            ],
        )
    ]

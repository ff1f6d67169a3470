from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("csms", "0017_a_batch_has_a_key")]

    operations = [
        migrations.AddField(
            model_name="chargingsession",
            name="bounded_wh",
            field=models.BigIntegerField(
                blank=True, help_text="What the charger has said it keeps to by itself, in Wh from the start; empty: nothing.", null=True
            ),
        ),
    ]

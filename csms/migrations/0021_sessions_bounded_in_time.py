from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("csms", "0020_a_command_may_be_sealed")]

    operations = [
        migrations.AddField(
            model_name="chargingsession",
            name="bounded_until",
            field=models.DateTimeField(
                blank=True,
                help_text="When the charger stops delivering by itself unless it is told anew (a charging profile that ends).",
                null=True,
            ),
        ),
        migrations.AddIndex(
            model_name="chargingsession",
            index=models.Index(
                condition=models.Q(models.Q(("state", "STOPPED"), _negated=True), ("bounded_until__isnull", False)),
                fields=["bounded_until"],
                name="session_bounded_until",
            ),
        ),
    ]

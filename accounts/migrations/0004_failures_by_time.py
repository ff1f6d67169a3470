from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_api_token")]

    operations = [
        migrations.AddIndex(
            model_name="auditentry",
            index=models.Index(
                condition=models.Q(("action__startswith", "failure.")), fields=["-at"], include=("action", "company"), name="audit_failures"
            ),
        ),
    ]

from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("shop", models.CharField(max_length=63)),
                ("amount", models.DecimalField(max_digits=10, decimal_places=2)),
                ("paid", models.BooleanField(default=False)),
                ("receipt", models.TextField(default="")),
            ],
        ),
        migrations.CreateModel(
            "Count",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("note", models.TextField()),
                ("orders", models.IntegerField()),
            ],
        ),
    ]

from django.db import models


class Order(models.Model):
    shop = models.CharField(max_length=63)
    amount = models.DecimalField(max_digits=10, decimal_places=2)
    paid = models.BooleanField(default=False)
    receipt = models.TextField(default="")

    def __str__(self):
        return f"order {self.pk} of {self.shop}"


class Count(models.Model):
    note = models.TextField()
    orders = models.IntegerField()

    def __str__(self):
        return f"{self.note}: {self.orders}"

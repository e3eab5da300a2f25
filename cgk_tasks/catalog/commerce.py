"""Orders, customers, products and stock."""

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Currency, Email, Money, PersonalData, RecordId, Timestamp


class OrderCreated(TenantEvent, event="order.created", category="commerce"):
    """A customer placed an order."""

    order_id: RecordId
    total_amount: Money
    shopify_order_id: RecordId | None = None
    customer_id: RecordId | None = None
    currency: Currency | None = None


class OrderFulfilled(TenantEvent, event="order.fulfilled", category="commerce"):
    """An order's items, or some of them, were handed to a carrier."""

    order_id: RecordId
    fulfillment_id: RecordId
    tracking_number: RecordId | None = None
    carrier: str | None = None


class OrderDelivered(TenantEvent, event="order.delivered", category="commerce"):
    """An order reached the customer."""

    order_id: RecordId
    fulfillment_id: RecordId | None = None
    delivered_at: Timestamp | None = None


class OrderCancelled(TenantEvent, event="order.cancelled", category="commerce"):
    """An order was called off before it was complete."""

    order_id: RecordId
    reason: str | None = None
    refund_amount: Money | None = None


class OrderRefunded(TenantEvent, event="order.refunded", category="commerce"):
    """Money of an order was paid back to the customer."""

    order_id: RecordId
    refund_amount: Money | None = None
    currency: Currency | None = None
    reason: str | None = None


class CustomerCreated(TenantEvent, event="customer.created", category="commerce"):
    """A new customer was registered in the shop."""

    customer_id: RecordId
    email: Email
    shopify_customer_id: RecordId | None = None


class CustomerUpdated(TenantEvent, event="customer.updated", category="commerce"):
    """A customer's details changed; `changes` holds the new values by field."""

    customer_id: RecordId
    changes: PersonalData


class ProductSync(TenantEvent, event="product.sync", category="commerce"):
    """Products are to be copied from the shop: one, or all of them with `full_sync`."""

    product_id: RecordId | None = None
    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")


class InventorySync(TenantEvent, event="inventory.sync", category="commerce"):
    """Stock levels are to be copied from the shop, for a product, a variant or a location."""

    product_id: RecordId | None = None
    variant_id: RecordId | None = None
    location_id: RecordId | None = None


class OrderReconcile(TenantEvent, event="order.reconcile", category="commerce"):
    """Orders are to be compared with the shop's, and missing ones copied."""

    start_date: Timestamp | None = None


class CustomerSync(TenantEvent, event="customer.sync", category="commerce"):
    """Customers are to be copied from the shop: those that changed, or all of them with `full_sync`."""

    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")


class CollectionSync(TenantEvent, event="collection.sync", category="commerce"):
    """Collections of products are to be copied from the shop: one, or all of them with `full_sync`."""

    collection_id: RecordId | None = None
    full_sync: bool | None = Field(default=None, description="Everything, not only what changed.")

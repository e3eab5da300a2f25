"""Money that goes to creators, and the treasury it comes from."""

from typing import Literal

from pydantic import Field

from cgk_tasks.events.base import TenantEvent
from cgk_tasks.events.fields import Currency, Money, RecordId, Timestamp


class PayoutRequested(TenantEvent, event="payout.requested", category="payouts"):
    """A creator asked for a payout."""

    payout_id: RecordId
    creator_id: RecordId
    amount: Money
    currency: Currency
    payout_type: Literal["domestic", "international"]


class PayoutProcessing(TenantEvent, event="payout.processing", category="payouts"):
    """A payout was handed to the payment provider."""

    payout_id: RecordId
    transfer_id: RecordId | None = None


class PayoutCompleted(TenantEvent, event="payout.completed", category="payouts"):
    """A payout reached the creator."""

    payout_id: RecordId
    completed_at: Timestamp
    transaction_id: RecordId | None = None


class PayoutFailed(TenantEvent, event="payout.failed", category="payouts"):
    """A payout did not go through."""

    payout_id: RecordId
    reason: str
    retryable: bool = Field(description="Whether trying again can help.")


class PaymentAvailable(TenantEvent, event="payment.available", category="payouts"):
    """Earnings of a creator became available for payout."""

    creator_id: RecordId
    amount: Money
    currency: Currency


class TreasuryTopup(TenantEvent, event="treasury.topup", category="payouts"):
    """The balance that payouts are paid from is to be topped up."""

    topup_id: RecordId
    amount: Money
    currency: Currency


class TreasuryApproval(TenantEvent, event="treasury.approval", category="payouts"):
    """A treasury request waits for an approval."""

    request_id: RecordId


class TreasuryLowBalance(TenantEvent, event="treasury.lowBalance", category="payouts"):
    """The balance that payouts are paid from fell below its threshold."""

    balance: Money
    threshold: Money
    currency: Currency


class ExpenseSync(TenantEvent, event="expense.sync", category="payouts"):
    """Payouts are to be copied to the books as expenses."""

    payout_id: RecordId | None = None
    start_date: Timestamp | None = None
    end_date: Timestamp | None = None


class CommissionMatured(TenantEvent, event="commission.matured", category="payouts"):
    """A commission passed its holding period and now belongs to the creator."""

    commission_id: RecordId
    order_id: RecordId
    creator_id: RecordId
    amount: Money


class PayoutCheckAvailable(TenantEvent, event="payout.checkAvailable", category="payouts"):
    """Earnings whose holding period has passed are to be made available for payout."""


class PayoutCheckPending(TenantEvent, event="payout.checkPending", category="payouts"):
    """The payment providers are to be asked about the payouts that are under way."""

    payout_type: Literal["domestic", "international"]


class PayoutMonthlySummary(TenantEvent, event="payout.monthlySummary", category="payouts"):
    """The summary of last month's payouts is to be compiled and sent."""


class PayoutProfitSnapshot(TenantEvent, event="payout.profitSnapshot", category="payouts"):
    """The profit and loss of a period is to be recorded as it stands."""

    period: Literal["monthly", "quarterly"]


class TreasuryCheckBalance(TenantEvent, event="treasury.checkBalance", category="payouts"):
    """The balance that payouts are paid from is to be compared with its threshold."""


class CommissionCheckMatured(TenantEvent, event="commission.checkMatured", category="payouts"):
    """Commissions whose holding period has passed are to be found."""

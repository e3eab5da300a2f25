"""Every job of the former platform: those that it started on demand, and those of its scheduled tasks.

A row: id, area, event, retry policy; and where they have one, `where` (the values by which the job knows its runs among
those of an event that several jobs share), `schedule` (the scheduled task that started it for every tenant: an entry of
SCHEDULES replaces that), and a time limit of its own. What they mean is in `CatalogJob`.

`@define_job("commerce-sync-order")` takes its event and policy from here; `cgk-tasks catalog list` shows which of them
an application has. An event that begins with `job.` is the job's own: no other event of the catalog means it.
"""

# fmt: off

from cgk_tasks.jobs.catalog_jobs import CatalogJob
from cgk_tasks.jobs.retry import RetryConfig


def tries(attempts: int, first: float, longest: float, factor: float = 2.0) -> RetryConfig:
    """So many attempts, with waits that grow from `first` to at most `longest` seconds."""
    return RetryConfig(attempts, factor=factor, initial_delay=first, max_delay=longest)


ONCE = RetryConfig(max_attempts=1)

JOBS = (
    CatalogJob("analytics-send-ga4-purchase",                       "analytics/ad-platforms",     "order.created",                         tries(3, 2, 30)),
    CatalogJob("analytics-send-meta-purchase",                      "analytics/ad-platforms",     "order.created",                         tries(3, 2, 30)),
    CatalogJob("analytics-send-tiktok-event",                       "analytics/ad-platforms",     "order.created",                         tries(3, 2, 30)),
    CatalogJob("analytics-sync-google-ads-spend",                   "analytics/ad-platforms",     "attribution.sync",                      tries(3, 10, 120),       where={"platform": "google"}, schedule="analytics-sync-google-ads-spend-scheduled"),
    CatalogJob("analytics-sync-meta-ads-spend",                     "analytics/ad-platforms",     "attribution.sync",                      tries(3, 10, 120),       where={"platform": "meta"}, schedule="analytics-sync-meta-ads-spend-scheduled"),

    CatalogJob("analytics-process-attribution",                     "analytics/attribution",      "order.created",                         tries(3, 5, 60)),
    CatalogJob("analytics-attribution-daily-metrics",               "analytics/attribution",      "attribution.aggregate",                 tries(2, 30, 120),       schedule="analytics-attribution-daily-metrics-scheduled"),
    CatalogJob("analytics-attribution-export-scheduler",            "analytics/attribution",      "attribution.exportDue",                 tries(3, 5, 60),         schedule="analytics-attribution-export-scheduled"),
    CatalogJob("analytics-attribution-fairing-bridge",              "analytics/attribution",      "attribution.sync",                      tries(3, 5, 60),         where={"platform": "fairing"}, schedule="analytics-attribution-fairing-bridge-scheduled"),
    CatalogJob("analytics-attribution-order-reconciliation",        "analytics/attribution",      "attribution.orderReconcile",            tries(2, 30, 120),       schedule="analytics-attribution-order-reconciliation-scheduled"),
    CatalogJob("analytics-attribution-order-reconciliation-manual", "analytics/attribution",      "job.analyticsAttributionOrderReconciliationManual", tries(3, 5, 60)),
    CatalogJob("analytics-attribution-recalculate-recent",          "analytics/attribution",      "attribution.recalculate",               tries(2, 30, 120),       schedule="analytics-attribution-recalculate-recent-scheduled"),
    CatalogJob("analytics-sync-tiktok-spend-daily",                 "analytics/attribution",      "attribution.sync",                      tries(3, 5, 60),         where={"platform": "tiktok"}, schedule="analytics-sync-tiktok-spend-scheduled"),
    CatalogJob("analytics-attribution-vta-sync",                    "analytics/attribution",      "attribution.viewThroughSync",           tries(2, 30, 120),       schedule="analytics-attribution-vta-sync-scheduled"),
    CatalogJob("analytics-attribution-process-unattributed",        "analytics/attribution",      "attribution.processUnattributed",       tries(2, 30, 120),       schedule="analytics-attribution-process-unattributed-scheduled"),
    CatalogJob("analytics-attribution-webhook-queue",               "analytics/attribution",      "attribution.processWebhooks",           tries(3, 5, 60),         schedule="analytics-attribution-webhook-queue-scheduled"),

    CatalogJob("analytics-aggregate-daily-metrics",                 "analytics/metrics",          "analytics.aggregate",                   tries(3, 10, 120),       where={"period": "daily"}, schedule="analytics-aggregate-daily-metrics-scheduled"),
    CatalogJob("analytics-hourly-metrics-rollup",                   "analytics/metrics",          "analytics.aggregate",                   tries(3, 10, 120),       where={"period": "hourly"}, schedule="analytics-hourly-metrics-rollup-scheduled"),
    CatalogJob("analytics-weekly-metrics-summary",                  "analytics/metrics",          "analytics.aggregate",                   tries(3, 10, 120),       where={"period": "weekly"}, schedule="analytics-weekly-metrics-summary-scheduled"),

    CatalogJob("analytics-attribution-ml-training",                 "analytics/ml-training",      "attribution.trainModel",                tries(2, 60, 300),       schedule="analytics-attribution-ml-training-scheduled"),

    CatalogJob("ab-hourly-metrics-aggregation",                     "commerce/ab-testing",        "ab.metricsAggregate",                   tries(3, 2, 30),         where={"period": "hourly"}, schedule="ab-hourly-aggregation-scheduled"),
    CatalogJob("ab-nightly-reconciliation",                         "commerce/ab-testing",        "ab.metricsAggregate",                   tries(5, 5, 120),        where={"period": "full"}, schedule="ab-nightly-reconciliation-scheduled"),
    CatalogJob("ab-aggregate-test-metrics",                         "commerce/ab-testing",        "job.abAggregateTestMetrics",            tries(3, 2, 30)),
    CatalogJob("ab-sync-redis-to-postgres",                         "commerce/ab-testing",        "ab.syncCounters",                       tries(5, 5, 120),        schedule="ab-redis-sync-scheduled"),
    CatalogJob("ab-daily-metrics-summary",                          "commerce/ab-testing",        "ab.metricsAggregate",                   tries(3, 2, 30),         where={"period": "daily"}, schedule="ab-daily-summary-scheduled"),
    CatalogJob("ab-optimization",                                   "commerce/ab-testing",        "ab.optimize",                           tries(3, 3, 3, factor=1), schedule="ab-optimization-scheduled"),
    CatalogJob("ab-optimize-test",                                  "commerce/ab-testing",        "job.abOptimizeTest",                    tries(3, 3, 3, factor=1)),
    CatalogJob("ab-optimization-summary",                           "commerce/ab-testing",        "ab.optimizationSummary",                tries(3, 2, 30),         schedule="ab-optimization-summary-scheduled"),
    CatalogJob("ab-order-reconciliation",                           "commerce/ab-testing",        "ab.orderReconcile",                     tries(5, 5, 120),        schedule="ab-order-reconciliation-scheduled"),
    CatalogJob("ab-order-reconciliation-manual",                    "commerce/ab-testing",        "job.abOrderReconciliationManual",       tries(5, 5, 120)),
    CatalogJob("ab-test-scheduler",                                 "commerce/ab-testing",        "ab.scheduleTests",                      tries(3, 3, 3, factor=1), schedule="ab-test-scheduler-scheduled"),
    CatalogJob("ab-handle-test-created",                            "commerce/ab-testing",        "ab.testCreated",                        tries(3, 2, 30)),
    CatalogJob("ab-handle-test-started",                            "commerce/ab-testing",        "ab.testStarted",                        tries(3, 2, 30)),
    CatalogJob("ab-handle-test-ended",                              "commerce/ab-testing",        "ab.testEnded",                          tries(3, 2, 30)),

    CatalogJob("commerce-sync-order",                               "commerce/order-sync",        "job.commerceSyncOrder",                 tries(5, 2, 60)),
    CatalogJob("commerce-sync-order-batch",                         "commerce/order-sync",        "job.commerceSyncOrderBatch",            tries(3, 5, 120)),
    CatalogJob("commerce-order-reconciliation",                     "commerce/order-sync",        "order.reconcile",                       tries(3, 5, 120),        schedule="commerce-order-reconciliation-scheduled"),
    CatalogJob("commerce-order-attribution",                        "commerce/order-sync",        "order.created",                         tries(5, 2, 60)),
    CatalogJob("commerce-order-commission",                         "commerce/order-sync",        "order.created",                         tries(5, 2, 60)),
    CatalogJob("commerce-order-review-email",                       "commerce/order-sync",        "order.fulfilled",                       tries(5, 2, 60)),
    CatalogJob("commerce-handle-order-created",                     "commerce/order-sync",        "order.created",                         tries(5, 2, 60)),
    CatalogJob("commerce-handle-order-fulfilled",                   "commerce/order-sync",        "order.fulfilled",                       tries(5, 2, 60)),

    CatalogJob("commerce-product-sync",                             "commerce/product-sync",      "product.sync",                          tries(5, 2, 60),         schedule="commerce-product-full-sync-scheduled"),
    CatalogJob("commerce-product-batch-sync",                       "commerce/product-sync",      "job.commerceProductBatchSync",          tries(3, 5, 120)),
    CatalogJob("commerce-handle-product-sync",                      "commerce/product-sync",      "product.sync",                          tries(5, 2, 60)),
    CatalogJob("commerce-customer-sync",                            "commerce/product-sync",      "customer.sync",                         tries(5, 2, 60),         schedule="commerce-customer-full-sync-scheduled"),
    CatalogJob("commerce-customer-batch-sync",                      "commerce/product-sync",      "job.commerceCustomerBatchSync",         tries(3, 5, 120)),
    CatalogJob("commerce-handle-customer-created",                  "commerce/product-sync",      "customer.created",                      tries(5, 2, 60)),
    CatalogJob("commerce-handle-customer-updated",                  "commerce/product-sync",      "customer.updated",                      tries(5, 2, 60)),
    CatalogJob("commerce-inventory-update",                         "commerce/product-sync",      "job.commerceInventoryUpdate",           tries(5, 2, 60)),
    CatalogJob("commerce-inventory-batch-sync",                     "commerce/product-sync",      "inventory.sync",                        tries(3, 5, 120),        schedule="commerce-inventory-sync-scheduled"),
    CatalogJob("commerce-handle-inventory-sync",                    "commerce/product-sync",      "inventory.sync",                        tries(5, 2, 60)),
    CatalogJob("commerce-collection-sync",                          "commerce/product-sync",      "collection.sync",                       tries(5, 2, 60),         schedule="commerce-collection-sync-scheduled"),
    CatalogJob("commerce-collection-products-sync",                 "commerce/product-sync",      "job.commerceCollectionProductsSync",    tries(5, 2, 60)),

    CatalogJob("commerce-process-review-email-queue",               "commerce/review-email",      "review.email.processQueue",             tries(2, 5, 5, factor=1), schedule="commerce-process-review-email-queue-scheduled"),
    CatalogJob("commerce-review-email-awaiting-delivery",           "commerce/review-email",      "review.email.checkDeliveries",          tries(2, 5, 5, factor=1), schedule="commerce-review-email-awaiting-delivery-scheduled"),
    CatalogJob("commerce-retry-failed-review-emails",               "commerce/review-email",      "review.email.retryFailed",              tries(2, 5, 5, factor=1), schedule="commerce-retry-failed-review-emails-scheduled"),
    CatalogJob("commerce-send-queued-review-email",                 "commerce/review-email",      "review.email.queued",                   tries(3, 1, 30)),
    CatalogJob("commerce-schedule-follow-up",                       "commerce/review-email",      "review.email.sent",                     tries(3, 1, 30)),
    CatalogJob("commerce-handle-review-email-queued",               "commerce/review-email",      "review.email.queued",                   tries(3, 1, 30)),
    CatalogJob("commerce-handle-review-email-sent",                 "commerce/review-email",      "review.email.sent",                     tries(3, 1, 30)),
    CatalogJob("commerce-review-email-stats",                       "commerce/review-email",      "job.commerceReviewEmailStats",          tries(2, 5, 5, factor=1)),

    CatalogJob("creator-aggregate-daily-metrics",                   "creators/analytics",         "creator.metricsAggregate",              tries(3, 30, 180),       where={"period": "daily"}, schedule="creator-aggregate-daily-metrics-scheduled"),
    CatalogJob("creator-generate-weekly-summary",                   "creators/analytics",         "creator.metricsAggregate",              tries(3, 30, 180),       where={"period": "weekly"}, schedule="creator-generate-weekly-summary-scheduled"),
    CatalogJob("creator-generate-monthly-report",                   "creators/analytics",         "creator.metricsAggregate",              tries(3, 30, 180),       where={"period": "monthly"}, schedule="creator-generate-monthly-report-scheduled"),

    CatalogJob("creator-process-application",                       "creators/applications",      "creator.applied",                       tries(3, 5, 60)),
    CatalogJob("creator-notify-admin-new-application",              "creators/applications",      "creator.applied",                       tries(3, 5, 60)),
    CatalogJob("creator-track-application-analytics",               "creators/applications",      "creator.applied",                       tries(3, 5, 60)),
    CatalogJob("creator-create-pipeline-entry",                     "creators/applications",      "creator.applied",                       tries(3, 5, 60)),
    CatalogJob("creator-process-approval",                          "creators/applications",      "creator.approved",                      tries(3, 5, 60)),
    CatalogJob("creator-process-rejection",                         "creators/applications",      "creator.rejected",                      tries(3, 5, 60)),
    CatalogJob("creator-send-approval-email",                       "creators/applications",      "creator.approved",                      tries(3, 5, 60)),
    CatalogJob("creator-send-rejection-email",                      "creators/applications",      "creator.rejected",                      tries(3, 5, 60)),
    CatalogJob("creator-on-applied",                                "creators/applications",      "creator.applied",                       tries(3, 5, 60)),
    CatalogJob("creator-on-approved",                               "creators/applications",      "creator.approved",                      tries(3, 5, 60)),
    CatalogJob("creator-on-rejected",                               "creators/applications",      "creator.rejected",                      tries(3, 5, 60)),

    CatalogJob("creator-process-email-queue",                       "creators/communications",    "creator.email.processQueue",            tries(3, 5, 60),         schedule="creator-process-email-queue-scheduled"),
    CatalogJob("creator-schedule-welcome-sequence",                 "creators/communications",    "job.creatorScheduleWelcomeSequence",    tries(3, 5, 60)),
    CatalogJob("creator-cancel-pending-emails",                     "creators/communications",    "job.creatorCancelPendingEmails",        tries(3, 5, 60)),
    CatalogJob("creator-retry-failed-emails",                       "creators/communications",    "creator.email.retryFailed",             tries(3, 5, 60),         schedule="creator-retry-failed-emails-scheduled"),
    CatalogJob("creator-queue-email",                               "creators/communications",    "job.creatorQueueEmail",                 tries(3, 5, 60)),
    CatalogJob("creator-queue-project-email",                       "creators/communications",    "job.creatorQueueProjectEmail",          tries(3, 5, 60)),
    CatalogJob("creator-queue-payment-email",                       "creators/communications",    "job.creatorQueuePaymentEmail",          tries(3, 5, 60)),
    CatalogJob("creator-on-setup-complete",                         "creators/communications",    "creator.setupComplete",                 tries(3, 5, 60)),
    CatalogJob("creator-product-delivery-reminders",                "creators/communications",    "creator.sendReminders",                 tries(3, 10, 120),       where={"reminderType": "delivery"}, schedule="creator-product-delivery-reminders-scheduled"),
    CatalogJob("creator-deadline-reminders",                        "creators/communications",    "creator.sendReminders",                 tries(3, 10, 120),       where={"reminderType": "deadline"}, schedule="creator-deadline-reminders-scheduled"),
    CatalogJob("creator-no-response-reminders",                     "creators/communications",    "creator.sendReminders",                 tries(3, 10, 120),       where={"reminderType": "noResponse"}, schedule="creator-no-response-reminders-scheduled"),
    CatalogJob("creator-abandoned-application-reminders",           "creators/communications",    "creator.sendReminders",                 tries(3, 10, 120),       where={"reminderType": "abandoned"}, schedule="creator-abandoned-application-reminders-scheduled"),
    CatalogJob("creator-send-reminder",                             "creators/communications",    "creator.reminder",                      tries(3, 5, 60)),
    CatalogJob("creator-check-approval-reminders",                  "creators/communications",    "creator.approvalReminders",             tries(3, 10, 120),       schedule="creator-approval-reminders-scheduled"),

    CatalogJob("payout-on-payment-available",                       "creators/payout-processing", "payment.available",                     tries(3, 5, 60)),
    CatalogJob("payout-on-payout-initiated",                        "creators/payout-processing", "payout.processing",                     tries(3, 5, 60)),
    CatalogJob("payout-on-payout-complete",                         "creators/payout-processing", "payout.completed",                      tries(3, 5, 60)),
    CatalogJob("payout-on-payout-failed",                           "creators/payout-processing", "payout.failed",                         tries(3, 5, 60)),
    CatalogJob("payout-process-international",                      "creators/payout-processing", "payout.requested",                      tries(3, 10, 120),       where={"payoutType": "international"}),
    CatalogJob("payout-process-domestic",                           "creators/payout-processing", "payout.requested",                      tries(3, 10, 120),       where={"payoutType": "domestic"}),
    CatalogJob("payout-check-payments-available",                   "creators/payout-processing", "payout.checkAvailable",                 tries(3, 30, 180),       schedule="payout-check-payments-available-scheduled"),
    CatalogJob("payout-check-pending-international",                "creators/payout-processing", "payout.checkPending",                   tries(3, 30, 180),       where={"payoutType": "international"}, schedule="payout-check-pending-international-scheduled"),
    CatalogJob("payout-check-pending-domestic",                     "creators/payout-processing", "payout.checkPending",                   tries(3, 30, 180),       where={"payoutType": "domestic"}, schedule="payout-check-pending-domestic-scheduled"),
    CatalogJob("payout-on-topup-succeeded",                         "creators/payout-processing", "treasury.topup",                        tries(3, 5, 60)),
    CatalogJob("payout-daily-expense-sync",                         "creators/payout-processing", "expense.sync",                          tries(3, 30, 180),       schedule="payout-daily-expense-sync-scheduled"),
    CatalogJob("payout-monthly-payment-summary",                    "creators/payout-processing", "payout.monthlySummary",                 tries(3, 30, 180),       schedule="payout-monthly-payment-summary-scheduled"),
    CatalogJob("payout-monthly-pl-snapshot",                        "creators/payout-processing", "payout.profitSnapshot",                 tries(3, 30, 180),       schedule="payout-monthly-pl-snapshot-scheduled"),
    CatalogJob("payout-on-commission-matured",                      "creators/payout-processing", "commission.matured",                    tries(3, 5, 60)),

    CatalogJob("platform-health-check-matrix",                      "platform/health-check",      "system.healthCheck",                    ONCE,                    where={"checkType": "full"}, schedule="platform-health-check-matrix-scheduled", timeout=60),

    CatalogJob("bri-gmail-sync",                                    "scheduled/additional",       "bri.sync",                              tries(3, 30, 120),       where={"source": "gmail"}, schedule="bri-gmail-sync-scheduled"),
    CatalogJob("bri-slack-sync",                                    "scheduled/additional",       "bri.sync",                              tries(3, 30, 120),       where={"source": "slack"}, schedule="bri-slack-sync-scheduled"),
    CatalogJob("bri-meeting-sync",                                  "scheduled/additional",       "job.briMeetingSync",                    tries(3, 30, 120)),
    CatalogJob("bri-data-process",                                  "scheduled/additional",       "job.briDataProcess",                    tries(3, 5, 60)),
    CatalogJob("dam-rights-expiry-check",                           "scheduled/additional",       "dam.rightsExpiry",                      tries(3, 5, 60),         schedule="dam-rights-expiry-scheduled"),
    CatalogJob("dam-mux-backfill",                                  "scheduled/additional",       "job.damMuxBackfill",                    tries(3, 30, 120)),
    CatalogJob("esign-reminder",                                    "scheduled/additional",       "job.esignReminder",                     tries(3, 5, 60)),
    CatalogJob("esign-expiry-check",                                "scheduled/additional",       "job.esignExpiryCheck",                  tries(3, 5, 60)),
    CatalogJob("escalation-check",                                  "scheduled/additional",       "escalation.check",                      tries(3, 5, 60),         schedule="escalation-check-scheduled"),
    CatalogJob("giftcard-email",                                    "scheduled/additional",       "job.giftcardEmail",                     tries(3, 5, 60)),
    CatalogJob("giftcard-expiry-notify",                            "scheduled/additional",       "job.giftcardExpiryNotify",              tries(3, 5, 60)),
    CatalogJob("commission-maturation-check",                       "scheduled/additional",       "commission.checkMatured",               tries(3, 5, 60),         schedule="commission-maturation-scheduled"),
    CatalogJob("onboarding-check",                                  "scheduled/additional",       "onboarding.check",                      tries(3, 5, 60),         schedule="onboarding-check-scheduled"),
    CatalogJob("project-automation",                                "scheduled/additional",       "project.statusChanged",                 tries(3, 5, 60)),
    CatalogJob("scheduled-report",                                  "scheduled/additional",       "job.scheduledReport",                   tries(3, 5, 60)),
    CatalogJob("stripe-token-refresh",                              "scheduled/additional",       "job.stripeTokenRefresh",                tries(3, 5, 60)),
    CatalogJob("klaviyo-sync",                                      "scheduled/additional",       "attribution.sync",                      tries(3, 30, 120),       where={"platform": "klaviyo"}),
    CatalogJob("gdrive-sync",                                       "scheduled/additional",       "dam.gdriveSync",                        tries(3, 30, 120)),
    CatalogJob("compliance-w9-reminder",                            "scheduled/additional",       "job.complianceW9Reminder",              tries(3, 5, 60)),
    CatalogJob("agent-memory-decay",                                "scheduled/additional",       "agent.memoryDecay",                     tries(3, 5, 60),         schedule="agent-memory-decay-scheduled"),
    CatalogJob("agent-context-prune",                               "scheduled/additional",       "job.agentContextPrune",                 tries(3, 5, 60)),
    CatalogJob("brand-context-refresh",                             "scheduled/additional",       "brandContext.refreshEmbeddings",        tries(3, 5, 60)),
    CatalogJob("brand-context-cleanup",                             "scheduled/additional",       "brandContext.cleanup",                  tries(3, 5, 60),         schedule="brand-context-cleanup-scheduled"),
    CatalogJob("brand-staleness-check",                             "scheduled/additional",       "brandContext.staleDetection",           tries(3, 5, 60)),
    CatalogJob("brand-url-sync",                                    "scheduled/additional",       "job.brandUrlSync",                      tries(3, 30, 120)),

    CatalogJob("alert-critical",                                    "scheduled/alerts",           "job.alertCritical",                     tries(5, 0.5, 10, factor=1.5)),
    CatalogJob("alert-system-error",                                "scheduled/alerts",           "job.alertSystemError",                  tries(3, 1, 30)),
    CatalogJob("alert-high-value-submission",                       "scheduled/alerts",           "job.alertHighValueSubmission",          tries(3, 1, 30)),
    CatalogJob("alert-creator-complaint",                           "scheduled/alerts",           "job.alertCreatorComplaint",             tries(3, 1, 30)),
    CatalogJob("alert-security",                                    "scheduled/alerts",           "job.alertSecurity",                     tries(5, 0.5, 10, factor=1.5)),
    CatalogJob("alert-api-failure",                                 "scheduled/alerts",           "job.alertApiFailure",                   tries(3, 1, 30)),
    CatalogJob("alert-unusual-activity",                            "scheduled/alerts",           "job.alertUnusualActivity",              tries(3, 1, 30)),
    CatalogJob("alert-milestone",                                   "scheduled/alerts",           "job.alertMilestone",                    tries(3, 1, 30)),

    CatalogJob("digest-admin-daily",                                "scheduled/digests",          "digest.send",                           tries(3, 5, 60),         where={"digest": "adminDaily"}, schedule="digest-admin-daily-scheduled"),
    CatalogJob("digest-at-risk-projects",                           "scheduled/digests",          "digest.send",                           tries(3, 5, 60),         where={"digest": "atRiskProjects"}, schedule="digest-at-risk-projects-scheduled"),
    CatalogJob("digest-creator-weekly",                             "scheduled/digests",          "digest.send",                           tries(3, 5, 60),         where={"digest": "creatorWeekly"}, schedule="digest-creator-weekly-scheduled"),

    CatalogJob("ops-health-check-critical",                         "scheduled/health-checks",    "system.healthCheck",                    ONCE,                    where={"checkType": "critical"}, schedule="ops-health-check-critical-scheduled", timeout=30),
    CatalogJob("ops-health-check-full",                             "scheduled/health-checks",    "system.healthCheck",                    ONCE,                    where={"checkType": "full"}, schedule="ops-health-check-full-scheduled", timeout=30),

    CatalogJob("media-creator-file-processing",                     "scheduled/media-processing", "creator.file.uploaded",                 tries(3, 5, 60)),
    CatalogJob("media-creator-file-batch-processing",               "scheduled/media-processing", "job.mediaCreatorFileBatchProcessing",   tries(2, 10, 120)),
    CatalogJob("media-dam-ingest-project",                          "scheduled/media-processing", "job.mediaDamIngestProject",             tries(3, 5, 60)),
    CatalogJob("media-dam-bulk-ingest",                             "scheduled/media-processing", "dam.bulkIngest",                        tries(2, 10, 120),       schedule="media-dam-bulk-ingest-scheduled"),
    CatalogJob("media-detect-asset-faces",                          "scheduled/media-processing", "dam.faceDetection",                     tries(3, 5, 60)),
    CatalogJob("media-batch-detect-faces",                          "scheduled/media-processing", "job.mediaBatchDetectFaces",             tries(2, 10, 120)),
    CatalogJob("media-scan-all-for-faces",                          "scheduled/media-processing", "dam.faceScan",                          tries(2, 10, 120),       schedule="media-scan-all-for-faces-scheduled"),

    CatalogJob("subscription-daily-billing",                        "scheduled/subscriptions",    "subscription.billing",                  tries(5, 5, 120),        schedule="subscription-daily-billing-scheduled"),
    CatalogJob("subscription-process-billing",                      "scheduled/subscriptions",    "job.subscriptionProcessBilling",        tries(5, 5, 120)),
    CatalogJob("subscription-batch-billing",                        "scheduled/subscriptions",    "job.subscriptionBatchBilling",          tries(5, 5, 120)),
    CatalogJob("subscription-retry-failed",                         "scheduled/subscriptions",    "subscription.retryFailed",              tries(3, 2, 30),         schedule="subscription-retry-failed-scheduled"),
    CatalogJob("subscription-catchup-billing",                      "scheduled/subscriptions",    "job.subscriptionCatchupBilling",        tries(5, 5, 120)),
    CatalogJob("subscription-shadow-validation",                    "scheduled/subscriptions",    "job.subscriptionShadowValidation",      tries(3, 2, 30)),
    CatalogJob("subscription-analytics-snapshot",                   "scheduled/subscriptions",    "subscription.analytics",                tries(3, 2, 30),         schedule="subscription-analytics-snapshot-scheduled"),
    CatalogJob("subscription-upcoming-reminder",                    "scheduled/subscriptions",    "subscription.upcomingReminders",        tries(3, 2, 30),         schedule="subscription-upcoming-reminder-scheduled"),
)

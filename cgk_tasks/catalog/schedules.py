"""Every schedule of the platform. `celery -A cgk_tasks beat` sees to them; `cgk-tasks schedules list` shows them.

A row: name, cron (minute hour day month weekday), time zone, event, payload; and where they differ from the usual,
scope (every active tenant), misfire ("once"), overlap ("skip"), spread (0 seconds). What they mean is in `Schedule`.
`replaces` names the scheduled tasks of the former platform that an entry stands for.

An application adds its own with `@define_cron_job`. A cron, zone or pause that an operator sets in the database wins.
"""

# fmt: off

from cgk_tasks.schedules.schedule import PLATFORM, Schedule, add_schedules

NEW_YORK = "America/New_York"

SCHEDULES = add_schedules(
    # ---- experiments ------------------------------------------------------------------------------------------------
    Schedule("ab.testScheduler",                 "*/5 * * * *",  "UTC",    "ab.scheduleTests",                spread=60, replaces=("ab-test-scheduler-scheduled",)),
    Schedule("ab.optimization",                  "*/15 * * * *", "UTC",    "ab.optimize",                     spread=300, replaces=("ab-optimization-scheduled",)),
    Schedule("ab.hourlyMetrics",                 "15 * * * *",   "UTC",    "ab.metricsAggregate",             {"period": "hourly"}, spread=600, replaces=("ab-hourly-aggregation-scheduled",)),
    Schedule("ab.orderReconciliation",           "15 * * * *",   "UTC",    "ab.orderReconcile",               spread=600, replaces=("ab-order-reconciliation-scheduled",)),
    Schedule("ab.redisSync",                     "0 */6 * * *",  "UTC",    "ab.syncCounters",                 spread=600, replaces=("ab-redis-sync-scheduled",)),
    Schedule("ab.nightlyReconciliation",         "0 2 * * *",    NEW_YORK, "ab.metricsAggregate",             {"period": "full"}, spread=1800, replaces=("ab-nightly-reconciliation-scheduled",)),
    Schedule("ab.dailySummary",                  "0 8 * * *",    NEW_YORK, "ab.metricsAggregate",             {"period": "daily"}, spread=600, replaces=("ab-daily-summary-scheduled",)),
    Schedule("ab.optimizationSummary",           "0 9 * * *",    "UTC",    "ab.optimizationSummary",          {"period": "daily"}, spread=600, replaces=("ab-optimization-summary-scheduled",)),

    # ---- attribution and advertising --------------------------------------------------------------------------------
    Schedule("attribution.webhookQueue",         "*/5 * * * *",  "UTC",    "attribution.processWebhooks",     spread=60, replaces=("analytics-attribution-webhook-queue-scheduled",)),
    Schedule("attribution.export",               "*/15 * * * *", "UTC",    "attribution.exportDue",           spread=300, replaces=("analytics-attribution-export-scheduled",)),
    Schedule("attribution.fairingBridge",        "15 * * * *",   "UTC",    "attribution.sync",                {"platform": "fairing"}, spread=600, replaces=("analytics-attribution-fairing-bridge-scheduled",)),
    Schedule("attribution.processUnattributed",  "30 * * * *",   "UTC",    "attribution.processUnattributed", spread=600, replaces=("analytics-attribution-process-unattributed-scheduled",)),
    Schedule("attribution.orderReconciliation",  "45 * * * *",   "UTC",    "attribution.orderReconcile",      spread=600, replaces=("analytics-attribution-order-reconciliation-scheduled",)),
    Schedule("attribution.dailyMetrics",         "10 2 * * *",   "UTC",    "attribution.aggregate",           {"period": "daily"}, spread=1800, replaces=("analytics-attribution-daily-metrics-scheduled",)),
    Schedule("attribution.vtaSync",              "30 2 * * *",   "UTC",    "attribution.viewThroughSync",     spread=1800, replaces=("analytics-attribution-vta-sync-scheduled",)),
    Schedule("attribution.tiktokSpend",          "0 3 * * *",    "UTC",    "attribution.sync",                {"platform": "tiktok"}, spread=1800, replaces=("analytics-sync-tiktok-spend-scheduled",)),
    Schedule("attribution.mlTraining",           "0 4 * * *",    "UTC",    "attribution.trainModel",          spread=3600, replaces=("analytics-attribution-ml-training-scheduled",)),
    Schedule("attribution.recalculateRecent",    "0 4 * * *",    "UTC",    "attribution.recalculate",         {"recalculateDays": 7}, spread=3600, replaces=("analytics-attribution-recalculate-recent-scheduled",)),
    Schedule("attribution.googleAdsSpend",       "0 5 * * *",    "UTC",    "attribution.sync",                {"platform": "google"}, spread=1800, replaces=("analytics-sync-google-ads-spend-scheduled",)),
    Schedule("attribution.metaAdsSpend",         "0 5 * * *",    "UTC",    "attribution.sync",                {"platform": "meta"}, spread=1800, replaces=("analytics-sync-meta-ads-spend-scheduled",)),

    # ---- figures ----------------------------------------------------------------------------------------------------
    Schedule("analytics.hourlyRollup",           "5 * * * *",    "UTC",    "analytics.aggregate",             {"period": "hourly"}, spread=600, replaces=("analytics-hourly-metrics-rollup-scheduled",)),
    Schedule("analytics.dailyMetrics",           "0 2 * * *",    "UTC",    "analytics.aggregate",             {"period": "daily"}, spread=1800, replaces=("analytics-aggregate-daily-metrics-scheduled",)),
    Schedule("analytics.weeklySummary",          "0 8 * * 1",    "UTC",    "analytics.aggregate",             {"period": "weekly"}, spread=1800, replaces=("analytics-weekly-metrics-summary-scheduled",)),

    # ---- shop -------------------------------------------------------------------------------------------------------
    Schedule("commerce.orderReconciliation",     "30 * * * *",   "UTC",    "order.reconcile",                 scope=PLATFORM, replaces=("commerce-order-reconciliation-scheduled",)),
    Schedule("commerce.inventorySync",           "0 * * * *",    "UTC",    "inventory.sync",                  spread=900, replaces=("commerce-inventory-sync-scheduled",)),
    Schedule("commerce.productFullSync",         "0 3 * * *",    "UTC",    "product.sync",                    {"fullSync": True}, spread=3600, replaces=("commerce-product-full-sync-scheduled",)),
    Schedule("commerce.customerFullSync",        "0 4 * * *",    "UTC",    "customer.sync",                   {"fullSync": True}, spread=3600, replaces=("commerce-customer-full-sync-scheduled",)),
    Schedule("commerce.collectionSync",          "0 5 * * *",    "UTC",    "collection.sync",                 {"fullSync": True}, spread=3600, replaces=("commerce-collection-sync-scheduled",)),

    # ---- emails that ask for reviews --------------------------------------------------------------------------------
    Schedule("review.emailQueue",                "*/5 * * * *",  "UTC",    "review.email.processQueue",       scope=PLATFORM, replaces=("commerce-process-review-email-queue-scheduled",)),
    Schedule("review.retryFailedEmails",         "*/15 * * * *", "UTC",    "review.email.retryFailed",        scope=PLATFORM, replaces=("commerce-retry-failed-review-emails-scheduled",)),
    Schedule("review.awaitingDelivery",          "0 12 * * *",   "UTC",    "review.email.checkDeliveries",    scope=PLATFORM, replaces=("commerce-review-email-awaiting-delivery-scheduled",)),

    # ---- creators ---------------------------------------------------------------------------------------------------
    Schedule("creator.emailQueue",               "*/5 * * * *",  "UTC",    "creator.email.processQueue",      spread=60, replaces=("creator-process-email-queue-scheduled",)),
    Schedule("creator.abandonedReminders",       "15 * * * *",   "UTC",    "creator.sendReminders",           {"reminderType": "abandoned"}, spread=600, replaces=("creator-abandoned-application-reminders-scheduled",)),
    Schedule("creator.retryFailedEmails",        "30 * * * *",   "UTC",    "creator.email.retryFailed",       spread=600, replaces=("creator-retry-failed-emails-scheduled",)),
    Schedule("creator.dailyMetrics",             "0 3 * * *",    "UTC",    "creator.metricsAggregate",        {"period": "daily"}, spread=1800, replaces=("creator-aggregate-daily-metrics-scheduled",)),
    Schedule("creator.approvalReminders",        "0 9 * * *",    "UTC",    "creator.approvalReminders",       spread=600, replaces=("creator-approval-reminders-scheduled",)),
    Schedule("creator.deadlineReminders",        "0 9 * * *",    "UTC",    "creator.sendReminders",           {"reminderType": "deadline"}, spread=600, replaces=("creator-deadline-reminders-scheduled",)),
    Schedule("creator.deliveryReminders",        "0 10 * * *",   "UTC",    "creator.sendReminders",           {"reminderType": "delivery"}, spread=600, replaces=("creator-product-delivery-reminders-scheduled",)),
    Schedule("creator.noResponseReminders",      "0 14 * * *",   "UTC",    "creator.sendReminders",           {"reminderType": "noResponse"}, spread=600, replaces=("creator-no-response-reminders-scheduled",)),
    Schedule("creator.weeklySummary",            "0 6 * * 0",    "UTC",    "creator.metricsAggregate",        {"period": "weekly"}, spread=1800, replaces=("creator-generate-weekly-summary-scheduled",)),
    Schedule("creator.monthlyReport",            "0 4 1 * *",    "UTC",    "creator.metricsAggregate",        {"period": "monthly"}, spread=3600, replaces=("creator-generate-monthly-report-scheduled",)),
    Schedule("onboarding.check",                 "0 10,16 * * *", "UTC",   "onboarding.check",                spread=600, replaces=("onboarding-check-scheduled",)),

    # ---- payouts, treasury, commissions -----------------------------------------------------------------------------
    Schedule("payout.pendingInternational",      "0 * * * *",    "UTC",    "payout.checkPending",             {"payoutType": "international"}, spread=600, replaces=("payout-check-pending-international-scheduled",)),
    Schedule("payout.pendingDomestic",           "30 * * * *",   "UTC",    "payout.checkPending",             {"payoutType": "domestic"}, spread=600, replaces=("payout-check-pending-domestic-scheduled",)),
    Schedule("payout.dailyExpenseSync",          "0 6 * * *",    "UTC",    "expense.sync",                    spread=1800, replaces=("payout-daily-expense-sync-scheduled",)),
    Schedule("payout.paymentsAvailable",         "0 8 * * *",    "UTC",    "payout.checkAvailable",           spread=600, replaces=("payout-check-payments-available-scheduled",)),
    Schedule("payout.monthlySummary",            "0 9 1 * *",    NEW_YORK, "payout.monthlySummary",           spread=1800, replaces=("payout-monthly-payment-summary-scheduled",)),
    Schedule("payout.monthlyPLSnapshot",         "0 2 2 * *",    NEW_YORK, "payout.profitSnapshot",           {"period": "monthly"}, spread=1800, replaces=("payout-monthly-pl-snapshot-scheduled",)),
    Schedule("treasury.lowBalanceAlert",         "0 9,17 * * *", NEW_YORK, "treasury.checkBalance",           spread=300),
    Schedule("commission.maturation",            "0 6 * * *",    "UTC",    "commission.checkMatured",         spread=1800, replaces=("commission-maturation-scheduled",)),

    # ---- subscriptions ----------------------------------------------------------------------------------------------
    Schedule("subscription.retryFailed",         "0 */4 * * *",  "UTC",    "subscription.retryFailed",        scope=PLATFORM, replaces=("subscription-retry-failed-scheduled",)),
    Schedule("subscription.dailyBilling",        "0 6 * * *",    "UTC",    "subscription.billing",            spread=1800, replaces=("subscription-daily-billing-scheduled",)),
    Schedule("subscription.analytics",           "0 8 * * *",    "UTC",    "subscription.analytics",          spread=1800, replaces=("subscription-analytics-snapshot-scheduled",)),
    Schedule("subscription.upcomingReminder",    "0 9 * * *",    "UTC",    "subscription.upcomingReminders",  scope=PLATFORM, replaces=("subscription-upcoming-reminder-scheduled",)),

    # ---- media ------------------------------------------------------------------------------------------------------
    Schedule("dam.bulkIngest",                   "0 4 * * *",    "UTC",    "dam.bulkIngest",                  spread=3600, replaces=("media-dam-bulk-ingest-scheduled",)),
    Schedule("dam.rightsExpiry",                 "0 8 * * *",    "UTC",    "dam.rightsExpiry",                spread=1800, replaces=("dam-rights-expiry-scheduled",)),
    Schedule("dam.faceScan",                     "0 3 * * 0",    "UTC",    "dam.faceScan",                    spread=3600, replaces=("media-scan-all-for-faces-scheduled",)),

    # ---- assistant and brand context --------------------------------------------------------------------------------
    Schedule("bri.gmailSync",                    "*/30 * * * *", "UTC",    "bri.sync",                        {"source": "gmail"}, spread=600, replaces=("bri-gmail-sync-scheduled",)),
    Schedule("bri.slackSync",                    "*/30 * * * *", "UTC",    "bri.sync",                        {"source": "slack"}, spread=600, replaces=("bri-slack-sync-scheduled",)),
    Schedule("escalation.check",                 "0 */2 * * *",  "UTC",    "escalation.check",                spread=600, replaces=("escalation-check-scheduled",)),
    Schedule("agent.memoryDecay",                "0 5 * * *",    "UTC",    "agent.memoryDecay",               spread=1800, replaces=("agent-memory-decay-scheduled",)),
    Schedule("brandContext.cleanup",             "0 */6 * * *",  "UTC",    "brandContext.cleanup",            spread=1800, replaces=("brand-context-cleanup-scheduled",)),
    Schedule("brandContext.staleDetection",      "0 9 * * 1",    "UTC",    "brandContext.staleDetection",     spread=1800),

    # ---- digests ----------------------------------------------------------------------------------------------------
    Schedule("digest.adminDaily",                "0 8 * * 1-5",  NEW_YORK, "digest.send",                     {"digest": "adminDaily"}, spread=600, replaces=("digest-admin-daily-scheduled",)),
    Schedule("digest.atRiskProjects",            "0 9 * * *",    "UTC",    "digest.send",                     {"digest": "atRiskProjects"}, spread=600, replaces=("digest-at-risk-projects-scheduled",)),
    Schedule("digest.creatorWeekly",             "0 10 * * 1",   NEW_YORK, "digest.send",                     {"digest": "creatorWeekly"}, spread=600, replaces=("digest-creator-weekly-scheduled",)),

    # ---- the platform itself; a check that comes late is of no use --------------------------------------------------
    Schedule("ops.healthCheckCritical",          "* * * * *",    "UTC",    "system.healthCheck",              {"checkType": "critical"}, scope=PLATFORM, misfire="skip", replaces=("ops-health-check-critical-scheduled",)),
    Schedule("ops.healthCheckFull",              "*/5 * * * *",  "UTC",    "system.healthCheck",              {"checkType": "full"}, scope=PLATFORM, misfire="skip", replaces=("ops-health-check-full-scheduled", "platform-health-check-matrix-scheduled")),
    Schedule("ops.dailyCleanup",                 "0 3 * * *",    "UTC",    "system.cleanup",                  {"target": "logs", "olderThanDays": 30}, scope=PLATFORM),
)

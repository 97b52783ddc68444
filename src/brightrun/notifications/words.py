"""The types of notifications in words, in the order in which pages list them."""

from brightrun.notifications.tables import NotificationType

TYPE_WORDS = {
    NotificationType.DATASET_READY: "A dataset is ready",
    NotificationType.DATASET_ERROR: "A dataset has errors",
    NotificationType.JOB_QUEUED: "Training is queued",
    NotificationType.JOB_STARTED: "Training started",
    NotificationType.JOB_COMPLETED: "Training is complete",
    NotificationType.JOB_FAILED: "Training failed",
    NotificationType.JOB_CANCELLED: "Training was cancelled",
    NotificationType.JOB_INTERRUPTED: "Training was interrupted",
    NotificationType.COST_ALERT: "Money: the month's budget or a job's limit",
    NotificationType.SYSTEM: "The platform itself",
}
"""Every type has one (a test compares)."""

"""The balancer: pure policies over a view of a fleet."""

from s3ml.scheduling.balancer.view import Choice, Policy, Reason, Replica, Shares, View

__all__ = ["Choice", "Policy", "Reason", "Replica", "Shares", "View"]

"""The balancer's policies: pure, without memory, without input or output; a module for each kind."""

from s3ml.scheduling.balancer.policies.registry import POLICIES, policy_named

__all__ = ["POLICIES", "policy_named"]

"""The balancer put together: the gateway's counters and files behind its ports, and its process."""

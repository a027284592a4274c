"""The endpoint picker: a gateway asks it where each request goes, and tells it when the answer came.

It sees headers that the gateway chose to send, never bodies: those are sealed, and none of its business.
"""

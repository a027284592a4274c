"""A balancer's own interface: how things stand, its metrics, and another policy, over HTTP.

Whoever may switch the policy may enter the folder of its Unix socket, and nobody else; an address that others
reach tells and takes nothing. Bodies are at most 4 KiB.
"""

import msgspec
from aiohttp import web

from s3ml.primitives.errors import ConfigurationError
from s3ml.scheduling.balancer.metrics import MEDIA_TYPE
from s3ml.scheduling.balancer.service import BalancerService

BODY_LIMIT_BYTES = 4096
STATUS_PATH, POLICY_PATH, METRICS_PATH, ALIVE_PATH = "/v1/status", "/v1/policy", "/metrics", "/livez"


class PolicyChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which policy is to decide."""

    policy: str


def create_control(service: BalancerService, *, may_switch: bool) -> web.Application:
    """Return the application.

    Args:
        service: What it tells of.
        may_switch: Whether policies can be switched here.
    """

    async def status(_: web.Request) -> web.Response:
        return _json(service.status())

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=service.metrics.render(), headers={"content-type": MEDIA_TYPE})

    async def alive(_: web.Request) -> web.Response:
        return _json({"is_gateway_lost": service.status().is_gateway_lost})

    async def switch(request: web.Request) -> web.Response:
        try:
            choice = msgspec.json.decode(await request.read(), type=PolicyChoice)
            service.switch(choice.policy)
        except (msgspec.DecodeError, UnicodeDecodeError, ConfigurationError) as error:
            return _json({"error": str(error)}, status=400)
        return _json(service.status())

    application = web.Application(client_max_size=BODY_LIMIT_BYTES)
    application.router.add_get(STATUS_PATH, status)
    application.router.add_get(METRICS_PATH, metrics)
    application.router.add_get(ALIVE_PATH, alive)
    if may_switch:
        application.router.add_put(POLICY_PATH, switch)
    return application


def _json(value: object, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")

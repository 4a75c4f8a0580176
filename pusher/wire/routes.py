"""The paths of the HTTP door (docs/reference/http-api.md)."""

from enum import StrEnum

DOOR = "127.0.0.1:9000"
"""Where an agent is asked on its own host, unless its configuration says otherwise."""

SSH_DOOR = "127.0.0.1:290"
"""Where it is asked through ssh. Ports below 1024 are root's: no other user can answer there in its place."""


class Route(StrEnum):
    """The paths of the HTTP door; `str.format` fills `{app}` and `{deployment}` (docs/reference/http-api.md)."""

    PAGE = "/"
    PAGE_FILE = "/page/{file}"
    HEALTHZ = "/healthz"
    APPS = "/apps"
    METRICS = "/metrics"
    OPENAPI = "/openapi.json"
    STATUS = "/status"
    NOTICES_TEST = "/notices/test"
    RELEASES = "/releases"
    LOGS = "/logs"
    ROLLBACK = "/rollback"
    CANCEL = "/cancel"
    APP_STATUS = "/apps/{app}/status"
    APP_HEALTH = "/apps/{app}/health"
    APP_RELEASES = "/apps/{app}/releases"
    APP_LOGS = "/apps/{app}/logs"
    APP_INDEX = "/apps/{app}/index"
    APP_SBOM = "/apps/{app}/sbom"
    APP_HISTORY = "/apps/{app}/history"
    APP_MISSING = "/apps/{app}/missing"
    APP_DEPLOYMENTS = "/apps/{app}/deployments"
    APP_ROLLBACK = "/apps/{app}/rollback"
    APP_CANCEL = "/apps/{app}/cancel"
    APP_PIN = "/apps/{app}/pin"
    APP_COMMANDS = "/apps/{app}/commands"
    APP_DROP = "/apps/{app}/drops/{manifest}"
    DEPLOYMENT = "/deployments/{deployment}"
    DEPLOYMENT_EVENTS = "/deployments/{deployment}/events"

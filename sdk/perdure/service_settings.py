"""How services are called: `[services.NAME]` in perdure.toml."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from perdure.errors import ConfigError
from perdure.hints import did_you_mean
from perdure.services import check_service_name

__all__ = [
    "SERVICES",
    "ServiceSettings",
    "parse_setting",
    "services_of",
    "setting_words",
    "variable_key",
]

SERVICES: Final = "services."
"""Begins the keys: `services.NAME.SETTING`."""


@dataclass(frozen=True, slots=True)
class ServiceSettings:
    """How one service is called. The names in perdure.toml have no unit: times are seconds."""

    url: str | None = None
    """Where an HTTP service is: methods are posted to `url/method`, whatever there is in
    Python under the name. None: it is in Python."""

    timeout_s: float = 30.0
    """How long one attempt may take."""

    attempts: int = 5
    """How often a call is attempted before it fails. A restart of the node counts anew."""

    backoff_min_s: float = 0.1
    """The pause after the first attempt. It doubles with each; half of it is random."""

    backoff_max_s: float = 5.0
    """The longest such pause. What the service itself asks for may be longer."""

    concurrency: int = 100
    """Attempts at a time in one node. Beyond it they wait."""


_FIELDS: Final = {
    "url": "url",
    "timeout": "timeout_s",
    "attempts": "attempts",
    "backoff_min": "backoff_min_s",
    "backoff_max": "backoff_max_s",
    "concurrency": "concurrency",
}
"""Name in perdure.toml to field."""

_MAX: Final = {
    "timeout": 86_400.0,
    "attempts": 1_000_000,
    "backoff_min": 86_400.0,
    "backoff_max": 86_400.0,
    "concurrency": 100_000,
}


def parse_setting(key: str, value: object, where: str) -> Any:
    """Return the value of `services.NAME.SETTING`, given as text or as TOML has it.

    Raises:
        ConfigError: There is no such setting, or the value is not possible.
    """
    name, _, setting = key.removeprefix(SERVICES).rpartition(".")
    try:
        check_service_name(name)
    except ValueError as error:
        raise ConfigError(f"{where}: {error}") from None
    if setting not in _FIELDS:
        raise ConfigError(f"{where} is no setting{did_you_mean(setting, list(_FIELDS))}")
    if setting == "url":
        return _url(value, where)
    whole = setting in ("attempts", "concurrency")
    return _number(value, int if whole else float, _MAX[setting], where)


def services_of(settings: Mapping[str, Any]) -> dict[str, ServiceSettings]:
    """Return the settings of each service, from `services.NAME.SETTING` and parsed values.

    Raises:
        ConfigError: The shortest pause is longer than the longest.
    """
    fields: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        name, _, setting = key.removeprefix(SERVICES).rpartition(".")
        fields.setdefault(name, {})[_FIELDS[setting]] = value
    services = {name: ServiceSettings(**found) for name, found in fields.items()}
    for name, service in services.items():
        if service.backoff_min_s > service.backoff_max_s:
            raise ConfigError(
                f"services.{name}: backoff_min, {service.backoff_min_s:g} s, is longer than "
                f"backoff_max, {service.backoff_max_s:g} s"
            )
    return services


def setting_words(services: Mapping[str, ServiceSettings]) -> list[str]:
    """Return the settings as `NAME.SETTING=VALUE` words, for the command line of a node."""
    return [
        f"{name}.{setting}={value}"
        for name, service in services.items()
        for setting, field in _FIELDS.items()
        if (value := getattr(service, field)) is not None
    ]


def variable_key(name: str) -> str | None:
    """Return the key that the end of `PERDURE_SERVICES_NAME_SETTING` stands for, if any."""
    for setting in _FIELDS:
        service, found, rest = name.rpartition(f"_{setting.upper()}")
        if found and service and not rest:
            return f"{SERVICES}{service.lower()}.{setting}"
    return None


def _url(value: object, where: str) -> str:
    text = value if isinstance(value, str) else ""
    try:
        parts = urlsplit(text)
        port_is_possible = parts.port is None or parts.port > 0
    except ValueError:
        raise ConfigError(f"{where}: no URL: {value!r:.200}") from None
    printable = text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("http", "https") or not (parts.hostname and port_is_possible):
        printable = False
    if not printable or parts.query or parts.fragment:
        raise ConfigError(
            f"{where}: a URL such as https://payments.example/v1, without ? and #, "
            f"not {value!r:.200}"
        )
    if parts.username is not None or parts.password is not None:
        # Not shown: it would be seen in logs, as it would in lists of processes.
        raise ConfigError(
            f"{where}: a URL with a user or a password in it is not possible: write the service "
            f"in Python, where it can read its secret"
        )
    return text.rstrip("/")


def _number(value: object, kind: type[int] | type[float], highest: float, where: str) -> float:
    wanted = f"{'a whole number' if kind is int else 'a number'} over 0, {highest:g} at most"
    try:
        number = kind(value) if isinstance(value, str) else value
    except ValueError:
        number = None
    fits = type(number) is int or (kind is float and type(number) is float)
    if not fits or not 0 < number <= highest:  # type: ignore[operator]  # One of the two.
        raise ConfigError(f"{where}: {wanted}, not {value!r:.100}")
    return kind(number)  # type: ignore[arg-type, call-overload]

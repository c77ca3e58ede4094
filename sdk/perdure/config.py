"""Settings: perdure.toml, then the environment, then flags; the later wins.

    app = "shop.py"                 # a path, seen from this file, or the name of a module
    data = "/var/lib/perdure"       # the data of the node n1 lies in its folder n1
    address = "10.0.0.1:7400"       # where clients call; else the first router
    routing = "router"              # or "direct": clients call the nodes that own their objects
    log_level = "info"
    restart_wait_max = 5            # seconds: what keeps dying is started again at least so often

    [cluster]
    id = "shop"                     # stored with the data: a node of another cluster is refused
    partitions = 64                 # fixed when the cluster is made, like the names of the nodes
    routers = ["10.0.0.1:7400"]

    [cluster.nodes]
    n1 = "10.0.0.1:7401"
    n2 = "10.0.0.2:7401"

    [limits]                        # of each node
    activations_max = 100_000

    [services.payment_service]      # for `ctx.call`; a service in Python has the same, but no url
    url = "https://payments.example/v1"
    timeout = 30                    # seconds, of one attempt
    attempts = 5
    backoff_min = 0.1
    backoff_max = 5
    concurrency = 100               # of each node

In the environment a key is `PERDURE_` and its name in capitals, `_` for every dot:
`PERDURE_DATA`, `PERDURE_CLUSTER_NODES=n1=10.0.0.1:7401,n2=10.0.0.2:7401`,
`PERDURE_SERVICES_PAYMENT_SERVICE_URL` (the name of the service in small letters).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from perdure.errors import ConfigError
from perdure.hints import did_you_mean
from perdure.ids import PARTITIONS_MAX
from perdure.service_settings import (
    SERVICES,
    ServiceSettings,
    parse_setting,
    services_of,
    variable_key,
)

__all__ = [
    "CONFIG_FILE",
    "RESTART_WAIT_MAX_S",
    "Config",
    "check_address",
    "check_node_name",
    "check_routing",
    "load_config",
    "routing_of_clients",
]

CONFIG_FILE: Final = "perdure.toml"

RESTART_WAIT_MAX_S: Final = 5.0

_LIMITS: Final = "limits."


@dataclass(frozen=True, slots=True)
class Config:
    """All settings, from wherever they came."""

    file: Path | None = None
    """The perdure.toml that was read."""

    app: str | None = None
    """An absolute path, or the name of a module."""

    data: Path | None = None

    address: str | None = None
    """Where clients call."""

    routing: str | None = None
    """`router` or `direct`: who sends the calls of clients to the nodes that own their objects."""

    log_level: str | None = None

    restart_wait_max_s: float = RESTART_WAIT_MAX_S
    """How long `perdure up` waits at most before it starts again what has died."""

    cluster_id: str | None = None

    partitions: int | None = None

    nodes: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name to address, of every node."""

    routers: tuple[str, ...] = ()

    limits: Mapping[str, float] = field(default_factory=dict[str, float])
    """Bounds of a node, by name. The node knows the names."""

    services: Mapping[str, ServiceSettings] = field(default_factory=dict[str, ServiceSettings])
    """How services are called, by name, where something is said about it."""


def load_config(
    file: Path | None, environment: Mapping[str, str], flags: Mapping[str, object]
) -> Config:
    """Read the settings.

    Args:
        file: None: the perdure.toml of the current folder, if there is one.
        environment: The process' environment. Names that mean nothing here are ignored.
        flags: By the names used in perdure.toml (`data`, `limits.activations_max`). None: not
            given.

    Raises:
        ConfigError: A file that cannot be read, an unknown key, or a value that cannot be; the
            text names the file, the variable or the flag.
    """
    if file is None and Path(CONFIG_FILE).is_file():
        file = Path(CONFIG_FILE)
    found: dict[str, Any] = {}
    if file is not None:
        for key, value in _from_file(file):
            found[key] = _parse(key, value, f"{file}: {key}")
            if key in ("app", "data"):
                found[key] = _seen_from(file.parent, key, found[key])
    for key, value in _from_environment(environment):
        found[key] = _parse(key, value, f"the environment: {_variable(key)}")
    for key, value in flags.items():
        if value is not None:
            found[key] = _parse(key, value, f"the flag for {key}")
    limits = {
        key.removeprefix(_LIMITS): value for key, value in found.items() if key.startswith(_LIMITS)
    }
    return Config(
        file=file,
        limits=limits,
        services=services_of({k: value for k, value in found.items() if k.startswith(SERVICES)}),
        **{name: found[key] for key, (name, _) in _KEYS.items() if key in found},
    )


def check_address(value: object, where: str) -> str:
    """Return an address unchanged.

    Raises:
        ConfigError: It is not `host:port` (`[::1]:7400` for IPv6).
    """
    if isinstance(value, str):
        match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9_.-]+):(\d{1,5})", value)
        if match and 0 < int(match[2]) <= 65_535:
            return value
    raise ConfigError(f"{where}: an address is host:port, not {value!r}")


def check_routing(value: object, where: str) -> str:
    """Return a routing unchanged.

    Raises:
        ConfigError: There is no such.
    """
    if value in ("router", "direct"):
        return str(value)
    raise ConfigError(f"{where}: router or direct, not {value!r}")


def routing_of_clients(environment: Mapping[str, str]) -> str:
    """Return how clients route that do not say it themselves.

    Args:
        environment: The process' environment. What it does not say, the perdure.toml of the
            current folder may.

    Raises:
        ConfigError: One of them says what cannot be.
    """
    if value := environment.get(_variable("routing")):
        return check_routing(value, f"the environment: {_variable('routing')}")
    return load_config(None, {}, {}).routing or "router"


def check_node_name(value: str, where: str) -> str:
    """Return a name of a node unchanged. Names are folders and parts of ring positions.

    Raises:
        ConfigError: It is no such name.
    """
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", value):
        return value
    raise ConfigError(
        f"{where}: a node's name has 1 to 63 small letters, digits and hyphens, not {value!r}"
    )


def _from_file(file: Path) -> Iterator[tuple[str, object]]:
    try:
        content = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise ConfigError(f"{file} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{file} is no TOML: {error}") from None
    for key, value in content.items():
        if key in ("cluster", "limits"):
            if not isinstance(value, dict):
                raise ConfigError(f"{file}: {key} is a table: [{key}]")
            yield from ((f"{key}.{name}", inner) for name, inner in value.items())
        elif key == "services":
            yield from _service_settings(file, value)
        else:
            yield key, value


def _service_settings(file: Path, services: object) -> Iterator[tuple[str, object]]:
    if not isinstance(services, dict):
        raise ConfigError(f"{file}: services is a table of tables: [services.NAME]")
    for name, settings in services.items():
        if not isinstance(settings, dict):
            raise ConfigError(f"{file}: services.{name} is a table: [services.{name}]")
        yield from ((f"{SERVICES}{name}.{setting}", value) for setting, value in settings.items())


def _from_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for key in _KEYS:
        if value := environment.get(_variable(key)):
            yield key, value
    prefix = _variable(_LIMITS)
    for name, value in environment.items():
        if name.startswith(prefix) and value:
            yield _LIMITS + name.removeprefix(prefix).lower(), value
    prefix = _variable(SERVICES)
    for name, value in environment.items():
        if name.startswith(prefix) and value:
            setting = variable_key(name.removeprefix(prefix))
            if setting is not None:
                yield setting, value


def _variable(key: str) -> str:
    return "PERDURE_" + key.replace(".", "_").upper()


def _seen_from(folder: Path, key: str, value: Any) -> Any:
    if key == "app" and not (value.endswith(".py") or "/" in value):
        return value
    path = (folder / Path(value).expanduser()).absolute()
    return str(path) if key == "app" else path


def _parse(key: str, value: object, where: str) -> Any:
    if key.startswith(_LIMITS):
        return _number(value, where)
    if key.startswith(SERVICES):
        return parse_setting(key, value, where)
    if key not in _KEYS:
        known = [*_KEYS, "limits", "services"]
        raise ConfigError(f"{where} is no setting{did_you_mean(key, known)}")
    return _KEYS[key][1](value, where)


def _text(value: object, where: str) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigError(f"{where}: a text that is not empty, not {value!r}")


def _path(value: object, where: str) -> Path:
    return Path(_text(str(value) if isinstance(value, Path) else value, where)).expanduser()


def _partitions(value: object, where: str) -> int:
    number = _number(value, where)
    if isinstance(number, int) and 1 <= number <= PARTITIONS_MAX:
        return number
    raise ConfigError(f"{where}: a number from 1 to {PARTITIONS_MAX}, not {value!r}")


def _number(value: object, where: str) -> float:
    if isinstance(value, str):
        for kind in (int, float):
            try:
                value = kind(value)
                break
            except ValueError:
                continue
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**63:
        return value
    raise ConfigError(f"{where}: a number that is not negative, not {value!r}")


def _log_level(value: object, where: str) -> str:
    if value in ("debug", "info", "warning", "error"):
        return str(value)
    raise ConfigError(f"{where}: debug, info, warning or error, not {value!r}")


def _nodes(value: object, where: str) -> dict[str, str]:
    if isinstance(value, str):
        pairs = [item.partition("=") for item in value.split(",")]
        value = {name.strip(): address.strip() for name, _, address in pairs}
        if len(value) != len(pairs):
            raise ConfigError(f"{where}: a name is given twice")
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{where}: a table of names and addresses, not {value!r}")
    nodes = {
        check_node_name(name, where): check_address(address, f"{where}.{name}")
        for name, address in value.items()
    }
    if len(set(nodes.values())) != len(nodes):
        raise ConfigError(f"{where}: two nodes have the same address")
    return nodes


def _routers(value: object, where: str) -> tuple[str, ...]:
    if isinstance(value, str):
        value = [item.strip() for item in value.split(",")]
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where}: a list of addresses, not {value!r}")
    return tuple(check_address(item, where) for item in value)


_KEYS: Final[dict[str, tuple[str, Callable[[object, str], Any]]]] = {
    "app": ("app", _text),
    "data": ("data", _path),
    "address": ("address", check_address),
    "routing": ("routing", check_routing),
    "log_level": ("log_level", _log_level),
    "restart_wait_max": ("restart_wait_max_s", _number),
    "cluster.id": ("cluster_id", _text),
    "cluster.partitions": ("partitions", _partitions),
    "cluster.nodes": ("nodes", _nodes),
    "cluster.routers": ("routers", _routers),
}
"""Key in perdure.toml to field of `Config` and how to read it, from text or from TOML."""

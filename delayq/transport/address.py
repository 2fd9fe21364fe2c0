"""A URL, as what it says: one server, the nodes of a Cluster, or Sentinels and a service."""

from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import parse_qs, unquote

from redis.asyncio.connection import SSLConnection, parse_url

Form = Literal["one", "cluster", "sentinel"]
Host = tuple[str, int]

SCHEMES = ("redis://", "rediss://", "unix://")
_FORMS: dict[str, Form] = {"cluster": "cluster", "sentinel": "sentinel"}
KNOWN = (*SCHEMES, *(f"redis+{form}://" for form in _FORMS), *(f"rediss+{f}://" for f in _FORMS))
_OPTIONS = frozenset(
    "client_name db decode_responses encoding encoding_errors health_check_interval "  # noqa: SIM905
    "password protocol socket_connect_timeout socket_read_size socket_timeout username".split()
)
"""What a query may say of every connection, as redis-py reads it; the others only of some."""
_OF_FORM: dict[Form, frozenset[str]] = {
    "one": frozenset(("max_connections", "retry_on_timeout")),
    "cluster": frozenset(),
    "sentinel": frozenset(
        ("max_connections", "retry_on_timeout", "sentinel_password", "sentinel_username")
    ),
}
_OF_TCP = frozenset(("socket_keepalive",))
_OF_TLS = frozenset(
    "ssl_ca_certs ssl_ca_data ssl_cert_reqs ssl_certfile ssl_check_hostname ssl_ciphers "  # noqa: SIM905
    "ssl_exclude_verify_flags ssl_include_verify_flags ssl_keyfile ssl_min_version".split()
)
_PORTS: dict[Form, int] = {"one": 6379, "cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and how to connect to it."""

    form: Form
    hosts: tuple[Host, ...]
    """Of nodes, or of Sentinels; of one server its options tell."""
    options: dict[str, Any]
    """As redis-py's connections take them."""
    service: str = ""
    """Whose primary the Sentinels are asked for."""
    asking: dict[str, Any] = field(default_factory=dict)
    """How to connect to the Sentinels: as redis-py's `sentinel_kwargs`."""


def parsed(url: str) -> Address:
    """Read a URL.

    :raises ValueError: if it cannot be understood
    """
    if not url.startswith(KNOWN):
        raise ValueError(f"it starts with {', '.join(KNOWN)}")
    scheme, _, rest = url.partition("://")
    plain, _, given = scheme.partition("+")
    form = _FORMS.get(given, "one")
    _check_options(url.partition("?")[2], plain, form)
    if form == "one":
        return Address("one", (), dict(parse_url(url)))
    rest, mark, query = rest.partition("?")
    before, _, path = rest.partition("/")
    user, at, listed = before.rpartition("@")
    hosts = tuple(_host(host, form) for host in listed.split(","))
    service, _, db = path.partition("/") if form == "sentinel" else ("", "", path)
    if form == "sentinel" and not service:
        raise ValueError("the name of the service is missing: …host:port/service")
    if form == "cluster" and db.strip("/0"):
        raise ValueError("a Cluster has no databases but 0")
    options = dict(parse_url(f"{plain}://{user}{at}host/{db}{mark}{query}"))
    del options["host"]
    if form == "cluster":
        return Address(form, hosts, options)
    return Address(form, hosts, options, unquote(service), _asking(options))


def _check_options(query: str, plain: str, form: Form) -> None:
    known = _OPTIONS | _OF_FORM[form]
    known |= frozenset() if plain == "unix" else _OF_TCP
    known |= _OF_TLS if plain == "rediss" else frozenset()
    if unknown := parse_qs(query, keep_blank_values=True).keys() - known:
        there = ", ".join(sorted(known))
        raise ValueError(f"?{min(unknown)}=: no such option of this URL; there are: {there}")


def _asking(options: dict[str, Any]) -> dict[str, Any]:
    """Take from the options those of Sentinels: a name and a password of their own; TLS as is."""
    names = [name for name in ("username", "password") if f"sentinel_{name}" in options]
    asking = {name: options.pop(f"sentinel_{name}") for name in names}
    asking |= {name: value for name, value in options.items() if name.startswith("ssl")}
    if options.get("connection_class") is SSLConnection:
        asking["ssl"] = True
    return asking


def _host(text: str, form: Form) -> Host:
    found = parse_url(f"redis://{text}") if text else {}
    if "host" not in found:
        raise ValueError(f"a host is missing in {text!r}: host:port[,host:port…] is needed")
    return found["host"], found.get("port", _PORTS[form])

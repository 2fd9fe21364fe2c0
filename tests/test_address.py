"""URLs, and what they say."""

from urllib.parse import urlencode

import pytest
from redis.asyncio.connection import SSLConnection

from delayq import InvalidSettings, Server
from delayq.transport.address import Address, parsed

USER = {"username": "me", "password": "p@w"}
SECURE = {"connection_class": SSLConnection}
CA = {"ssl_ca_certs": "ca.pem"}
VALUES = {
    "db": "0",
    "encoding": "utf-8",
    "encoding_errors": "strict",
    "protocol": "2",
    "ssl_cert_reqs": "required",
    "ssl_check_hostname": "yes",
    "ssl_exclude_verify_flags": "VERIFY_X509_STRICT",
    "ssl_include_verify_flags": "VERIFY_X509_STRICT",
}


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h:1/2", Address("one", (), {"host": "h", "port": 1, "db": 2})),
        ("redis+cluster://h", Address("cluster", (("h", 6379),), {})),
        (
            "redis+cluster://me:p%40w@h:1,[::1]:2/?socket_timeout=3",
            Address("cluster", (("h", 1), ("::1", 2)), USER | {"socket_timeout": 3.0}),
        ),
        ("rediss+cluster://h:1", Address("cluster", (("h", 1),), SECURE)),
        ("redis+sentinel://h/main", Address("sentinel", (("h", 26379),), {}, "main")),
        (
            "rediss+sentinel://me:p%40w@g:1,h:2/my%20service/3",
            Address(
                *("sentinel", (("g", 1), ("h", 2)), SECURE | USER | {"db": 3}, "my service"),
                {"ssl": True},
            ),
        ),
        (
            "redis+sentinel://h/main?sentinel_username=me&sentinel_password=p%40w&db=1",
            Address("sentinel", (("h", 26379),), {"db": 1}, "main", USER),
        ),
        (
            "rediss+sentinel://h/main?ssl_ca_certs=ca.pem",
            Address(
                *("sentinel", (("h", 26379),), SECURE | CA, "main"),
                {"ssl": True} | CA,
            ),
        ),
    ],
)
def test_a_url_says_where_and_how(url: str, address: Address) -> None:
    assert parsed(url) == address


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "it starts with redis://"),
        ("http://x", "it starts with redis://"),
        ("redis+other://x", "it starts with redis://"),
        ("redis://[::1", "IPv6"),
        ("redis://x/0?db=x", "db"),
        ("redis+cluster://", "a host is missing"),
        ("redis+cluster://a,,b", "a host is missing"),
        ("redis+cluster://a:x", "Port"),
        ("redis+cluster://a/1", "no databases but 0"),
        ("redis+sentinel://a:1", "the name of the service is missing"),
        ("redis+sentinel://a:1/", "the name of the service is missing"),
        ("unix:///x.sock?foo=1", r"\?foo=: no such option"),
        ("unix:///x.sock?socket_keepalive=1", r"\?socket_keepalive=: no such option"),
        ("redis://x?db=1&timeout=2", r"\?timeout=: no such option"),
        ("redis://x?ssl_ca_certs=ca.pem", r"\?ssl_ca_certs=: no such option"),
        ("redis://x?connection_class=", r"\?connection_class=: no such option"),
        ("redis+cluster://x?max_connections=3", r"\?max_connections=: no such option"),
        ("redis+sentinel://x/main?foo=1", r"\?foo=: no such option"),
        ("redis://x?sentinel_password=p", r"\?sentinel_password=: no such option"),
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(InvalidSettings, match=said):
        Server(url)


@pytest.mark.parametrize(
    ("scheme", "rest"),
    [
        ("redis", "h"),
        ("rediss", "h"),
        ("unix", "/x.sock"),
        ("redis+cluster", "h"),
        ("rediss+cluster", "h"),
        ("redis+sentinel", "h/main"),
        ("rediss+sentinel", "h/main"),
    ],
)
async def test_every_option_of_a_url_is_taken_by_each_client(scheme: str, rest: str) -> None:
    with pytest.raises(InvalidSettings) as refused:
        Server(f"{scheme}://{rest}?x=1")
    options = str(refused.value).partition("there are: ")[2].split(", ")
    given = {name: VALUES.get(name, "1") for name in options}
    server = Server(f"{scheme}://{rest}?{urlencode(given)}")
    async with server.client() as client:
        if "cluster" not in scheme:
            client.connection_pool.make_connection()
    if "cluster" not in scheme:  # that of a Cluster connects at once
        server.blocking_client().connection_pool.make_connection()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis+cluster://me:p:w@a:1,b:2", "redis+cluster://me:***@a:1,b:2"),
        ("redis+sentinel://:pw@a:1/main/0", "redis+sentinel://:***@a:1/main/0"),
        ("redis+sentinel://a/m?sentinel_password=pw", "redis+sentinel://a/m?sentinel_password=***"),
        ("rediss+cluster://a?password=pw&db=0", "rediss+cluster://a?password=***&db=0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert Server(url).shown == shown

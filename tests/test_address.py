"""URLs, and what they say."""

import pytest
from redis.asyncio.connection import SSLConnection

from delayq import Server
from delayq.address import Address, parsed

USER = {"username": "me", "password": "p@w"}
SECURE = {"connection_class": SSLConnection}
CA = {"ssl_ca_certs": "ca.pem"}


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
    ],
)
def test_a_url_that_cannot_be_understood_is_refused_with_the_reason(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Server(url)


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

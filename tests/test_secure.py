"""TLS to servers that fail over, and Sentinels with a password."""

from collections.abc import AsyncIterator, Callable

import pytest

from delayq import Server, ServerUnreachable, check
from delayq.errors import ServerRefused
from tests.clusters import RealCluster, RealSentinels
from tests.conftest import KEYS
from tests.secure import CERTIFICATE, PASSWORD, LockedWatcher, SecureNode, SecureWatcher
from tests.test_clusters import Load

SECURE = pytest.mark.parametrize(
    "make",
    [
        lambda: RealSentinels(node=SecureNode, watcher=SecureWatcher),
        lambda: RealCluster(node=SecureNode),
    ],
    ids=["sentinel", "cluster"],
)


class Secure:
    """Servers, and the URL by which they are trusted."""

    def __init__(self, servers: RealCluster | RealSentinels) -> None:
        self.servers = servers
        self.untrusted = servers.url.replace("redis+", "rediss+")
        self.url = f"{self.untrusted}?ssl_ca_certs={CERTIFICATE}"


@SECURE
async def test_a_primary_that_dies_is_followed_over_tls(
    make: Callable[[], RealCluster | RealSentinels],
) -> None:
    servers = make()
    secure = Secure(servers)
    try:
        await servers.start()
        with pytest.raises(ServerUnreachable, match="certificate verify failed"):
            await check(Server(secure.untrusted))
        assert await check(Server(secure.url)) == []
        assert Server(secure.url).blocking_client().ping()
        load = Load(servers, secure.url)
        await load.run(lambda: servers.kill_holder(KEYS.stream))
        load.went_on()
    finally:
        servers.close()


@pytest.fixture
async def locked() -> AsyncIterator[RealSentinels]:
    sentinels = RealSentinels(watcher=LockedWatcher)
    try:
        await sentinels.start()
        yield sentinels
    finally:
        sentinels.close()


async def test_sentinels_with_a_password_are_asked_with_it(locked: RealSentinels) -> None:
    url = f"{locked.url}?sentinel_password={PASSWORD}"
    assert await check(Server(f"{url}&sentinel_username=default")) == []
    assert Server(url).blocking_client().ping()
    load = Load(locked, url)
    await load.run(lambda: locked.kill_holder(KEYS.stream))
    load.went_on()


@pytest.mark.parametrize("query", ["", "?sentinel_password=wrong", "?password=open"])
async def test_sentinels_that_refuse_are_told(locked: RealSentinels, query: str) -> None:
    with pytest.raises(ServerRefused, match="no Sentinel knows 'main'"):
        await check(Server(locked.url + query))

from delayq import Server
from delayq.lease import Lease, renew_blocking
from tests.conftest import KEYS, Client


async def test_a_thread_renews_a_lease(server: Server, client: Client, lease: Lease) -> None:
    await client.pexpire(KEYS.lease(), 1_000)
    blocking = server.blocking_client()
    renewed = renew_blocking(blocking, lease, "named")
    blocking.close()
    assert renewed.trusted_until > lease.trusted_until
    assert await client.hget(KEYS.lease(), "connection") == "named"
    assert await client.pttl(KEYS.lease()) > 9_000

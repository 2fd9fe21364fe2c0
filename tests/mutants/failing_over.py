"""Servers that fail over."""

from tests.mutants.mutant import mutant

FAILING_OVER = [
    mutant(
        "a connection that was cut goes back to where it was",
        "test_clusters.py::test_a_primary_that_comes_back_too_soon_is_not_believed",
        ("quick.py", "                await self.connect()  #", "                pass  #"),
    ),
    mutant(
        "the first Sentinel that answers is believed",
        "test_clusters.py::test_the_sentinel_that_knows_of_the_latest_failover_is_believed",
        (
            "sentinels.py",
            'max(known, key=lambda state: int(state["config-epoch"]), default=None)',
            "next(iter(known), None)",
        ),
    ),
    mutant(
        "a Cluster that is down has refused",
        "test_clusters.py::test_a_cluster_that_is_down_is_an_outage_like_any_other",
        ("scripts.py", "    redis_errors.ClusterDownError: ServerUnreachable,"),
    ),
    mutant(
        "whoever a lease names is asked",
        "test_clusters.py::test_nobody_is_asked_who_is_no_node_of_the_cluster",
        (
            "roaming.py",
            "        if known is None:\n            return set()\n",
            "        if known is None:\n            raise LookupError(node)\n",
        ),
    ),
    mutant(
        "a node that does not answer about connections stops a standby",
        "test_clusters.py::"
        "test_an_anchor_whose_node_dies_names_another_and_proves_nothing_by_the_old",
        ("roaming.py", "with anyio.move_on_after(ANSWER_S), suppress(ServerError):", "if True:"),
    ),
    mutant(
        "one primary of a Cluster is checked",
        "test_clusters.py::test_a_cluster_is_checked_as_a_whole",
        ("fitness.py", "in await primaries(client):", "in (await primaries(client))[:1]:"),
    ),
]

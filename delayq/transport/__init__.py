"""How calls reach the server, and how it rings: one server, a Cluster, or one that Sentinels name.

    link = client    calls: each over a wire, or over redis-py's own connections made quick
         + anchor    leases: one connection that ends with its process; roaming on a Cluster
         + bells     waits: blocking reads that many bells share
    address          what a URL says; cluster and sentinels follow what it names

The path of a message is in none of these: it begins where `delayq.connection` has a link.
"""

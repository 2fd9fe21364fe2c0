"""delayq beside other queues on Redis, measured in one run: `python -m tests.peers --help`.

Each peer stands in an environment of its own, pinned in the head of its adapter, and is set as its
documentation advises. This package's `speak` and `handler` run in those environments: they import
nothing but the standard library, so that what is measured costs the same for all.
"""

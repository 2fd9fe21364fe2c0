"""Shows, from the recorded history of a run, that no promise was broken while things broke.

    scripts ── audit.lua ──▶ audit stream of each lane ─┐
    processes ── Log ──▶ one file each ─────────────────┼─▶ Checker ──▶ Verdict
    faults ── Log ──▶ one file ─────────────────────────┤
    what is left in Redis ── a scan ────────────────────┘

`history` has the values that are recorded, and the verdict. `audit`, `log` and `scan` record. The
rest judges, does no I/O and asks no clock; `checker` draws how its parts hang together, and each of
them tells what it proves, and what it assumes.
"""

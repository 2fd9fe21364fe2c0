"""Shows, from the recorded history of a run, that no promise was broken while things broke.

    scripts ── audit.lua ──▶ audit stream of each lane ─┐
    processes ── Log ──▶ one file each ─────────────────┼─▶ Checker ──▶ Verdict
    faults ── Log ──▶ one file ─────────────────────────┤
    what is left in Redis ── a scan ────────────────────┘

`history` has the values that are recorded, `log` writes and reads the files, `audit` makes the
scripts record what they do, and `checker` judges: it does no I/O and asks no clock.
"""

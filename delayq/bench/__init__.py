"""delayq measured on a user's own Redis, beside the loops that redis-py alone allows.

One module a measurement, each an interchangeable sibling: it is given a `Stage`, and returns a
`Section` of figures. What is compared is run in turns within the same rounds, so that what
disturbs a machine disturbs both.
"""

"""One file a peer: what it is installed with, how it is set, and how it is spoken to."""

"""What goes through the public roles, on servers that fail over.

These are tests of other modules: pytest finds them here as well, and gives them the servers of this
folder.
"""

"""The two demos: thin stories told with the library's own roles."""

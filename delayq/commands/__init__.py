"""What operators do to queues from the command line: each command answers, and prints nothing."""

"""Programs as users write them, which the tests run."""

"""The user's side of ParallelRunStep."""

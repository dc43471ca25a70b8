"""Side-by-side speed: each row is a ratio of two sides that are measured alternately in one run."""

"""One training loop in steps: optimizer, schedule, weight averaging, checkpoints."""

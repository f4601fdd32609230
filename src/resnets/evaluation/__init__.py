"""What a network is worth: numbers with intervals, curves, maps of evidence, and the report that
shows them. No torch."""

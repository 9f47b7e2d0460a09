"""What counts as rounding: of means in NumPy, which `methods` takes, and of those in a graph, which `vjp` writes."""

CANCELLED = 1e-4  # of the terms of a sum: one that is less says nothing

META = "meta.json"
COEFFICIENTS = {1: 3, 2: 8, 3: 15}
"""Harmonics above the base color by the number of bands."""
ROW = 64
"""Entries of the palette in a row of its image."""
PALETTE = 1 << 16
"""Entries at most."""

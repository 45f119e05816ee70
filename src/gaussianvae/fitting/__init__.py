"""Fitting splats to photos: losses' owners, the optimizer that survives row edits, and the verbs reconstruct and refine."""

"""Fitting splats to photos: an optimizer that survives row edits, and the verb reconstruct."""

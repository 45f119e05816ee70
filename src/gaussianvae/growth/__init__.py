"""Where and how Gaussians multiply: scores, choice under a budget, splits, lineages."""

"""The conditional VAE over lineages: tokens in, residuals out."""

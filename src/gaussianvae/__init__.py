"""gaussianvae: make a 3D Gaussian splat sharper than the photos it was trained on."""

__version__ = "0.1.0"

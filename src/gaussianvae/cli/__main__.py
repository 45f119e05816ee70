"""`python -m gaussianvae.cli`."""

import sys

from gaussianvae.cli import main

sys.exit(main())

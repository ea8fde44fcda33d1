"""Points whose densities are known: one-dimensional mixtures and the two-dimensional fractal."""

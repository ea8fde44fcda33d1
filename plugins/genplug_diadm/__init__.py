"""DiADM: diffusion conditioned on features of training images (arXiv 2411.16171)."""

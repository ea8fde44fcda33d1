"""ADM networks: U-Net and noisy classifier of guided-diffusion (Dhariwal and Nichol, arXiv 2105.05233)."""

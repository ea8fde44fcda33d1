"""Flow-matching postprocessing: generated samples moved towards real neighbours (arXiv 2503.10638)."""

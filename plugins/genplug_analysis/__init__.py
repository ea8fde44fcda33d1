"""Analysis of why guidance and postprocessing work: trajectories, boundaries, displacements, feature maps."""

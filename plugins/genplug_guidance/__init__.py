"""Guidance: classifier-free, by a classifier, by a worse model, by a discriminator, for realism."""

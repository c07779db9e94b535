//! Verifiable sampling: the seeded sampler and its fixed-point logarithm; pure.

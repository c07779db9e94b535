//! Rules of the sampler.

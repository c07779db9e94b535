//! The llama.cpp backend of the Engine trait; the one crate with foreign code.

//! Our engine against llama.cpp driven directly: same library, file, threads and settings.

//! Authenticated encrypted transport between nodes, over iroh.

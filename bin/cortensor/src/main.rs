//! The `cortensor` binary: every role and tool of the network.
fn main() {}

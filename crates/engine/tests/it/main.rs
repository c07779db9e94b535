//! The backends through their public interface: the simulator, and the remote backend against real HTTP servers.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests, not only tests")]

mod mock;
mod openai;
mod support;
mod upstream;

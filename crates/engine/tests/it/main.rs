//! The backends through their public interface: the simulator, and the remote backend against real HTTP servers.

mod mock;
mod openai;
mod support;
mod upstream;

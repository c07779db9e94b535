//! The embedded chain: EVM execution, state, mempool, JSON-RPC.

//! Generated bindings, typed clients and deployment of the Cortensor contracts.

//! Supervisor and services: router, miner, wallet client.

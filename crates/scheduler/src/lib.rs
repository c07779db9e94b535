//! Choice of a miner: snapshot and request in, choice and reason out; pure.

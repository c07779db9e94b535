//! API keys: who may use which session over HTTP. Only hashes are stored; a key is shown once, when it is made.

use super::settle::{API_KEYS, SettleError, Settlement};
use crate::journal::{StoreError, Write, decode, encode};
use cortensor_gateway::Caller;
use cortensor_protocol::SessionId;
use parking_lot::RwLock;
use rand::Rng;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Most keys of one router.
const MAX_KEYS: usize = 100_000;

/// What is kept of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// Name that is safe to log: the beginning of the key.
    pub key_id: String,
    /// The session that pays for it.
    pub session: SessionId,
    /// Whether it may see what belongs to others.
    pub admin: bool,
}

/// All keys, in memory, each change durable.
#[derive(Debug, Default)]
pub struct ApiKeys {
    by_hash: RwLock<HashMap<[u8; 32], KeyRecord>>,
}

/// Keys carry 256 random bits, so a plain hash needs no salt and no stretching.
fn hash(key: &str) -> [u8; 32] {
    *blake3::hash(key.as_bytes()).as_bytes()
}

impl ApiKeys {
    /// Loads the stored keys.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn load(settlement: &Settlement) -> Result<Self, StoreError> {
        let mut by_hash = HashMap::new();
        for (key, record) in settlement.scan(API_KEYS, MAX_KEYS)? {
            let key = key.try_into().map_err(|_| StoreError::Corrupt { what: "API key hash" })?;
            by_hash.insert(key, decode("API key", &record)?);
        }
        Ok(Self { by_hash: RwLock::new(by_hash) })
    }

    /// Makes a key for a session and returns it: the only time that it can be read.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn create(
        &self,
        settlement: &Settlement,
        session: SessionId,
        admin: bool,
    ) -> Result<String, SettleError> {
        let secret: [u8; 32] = rand::rng().random();
        let key = format!("sk-cor-{}", alloy::primitives::hex::encode(secret));
        self.insert(settlement, &key, session, admin).await?;
        Ok(key)
    }

    /// Stores a key that already exists elsewhere, for another session than before.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn insert(
        &self,
        settlement: &Settlement,
        key: &str,
        session: SessionId,
        admin: bool,
    ) -> Result<(), SettleError> {
        let key_id = key.chars().take(14).collect();
        let record = KeyRecord { key_id, session, admin };
        settlement.put(Write::Put(API_KEYS, hash(key).to_vec(), encode(&record))).await?;
        self.by_hash.write().insert(hash(key), record);
        Ok(())
    }

    /// The caller that a key stands for.
    #[must_use]
    pub fn find(&self, key: &str) -> Option<Caller> {
        let keys = self.by_hash.read();
        let record = keys.get(&hash(key))?;
        Some(Caller { key_id: record.key_id.clone(), session: record.session, admin: record.admin })
    }
}

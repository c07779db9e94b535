//! The miner: takes tasks from routers, runs them on its engines, signs a receipt for what it delivered and keeps the
//! vouchers that pay for it.
//!
//! It admits work up to the capacity of its engines, refuses with *busy* beyond it, works on credit only up to a limit
//! for each session, and stops at the next token when the client leaves.

pub mod batches;
pub mod cases;
pub mod earnings;
pub mod link;
pub mod redeem;
pub mod rewards;
mod serve;
mod service;

pub use serve::{Miner, MinerConfig};
pub use service::{MinerService, MinerServiceError};

use cortensor_engine::Engine;
use cortensor_protocol::{ModelId, ModelOffer, Price};
use std::sync::Arc;

/// One engine and what is asked for its work.
#[derive(Clone)]
pub struct Offering {
    /// The engine.
    pub engine: Arc<dyn Engine>,
    /// Asked price.
    pub price: Price,
}

impl std::fmt::Debug for Offering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offering")
            .field("model", &self.engine.info().manifest.name)
            .field("price", &self.price)
            .finish()
    }
}

impl Offering {
    /// The model that it serves.
    #[must_use]
    pub fn model(&self) -> ModelId {
        self.engine.info().manifest.id()
    }

    /// The offer as routers are told.
    #[must_use]
    pub fn offer(&self) -> ModelOffer {
        let info = self.engine.info();
        ModelOffer {
            manifest: info.manifest.clone(),
            price: self.price,
            tier: info.tier,
            build: info.build.clone(),
            context: info.context,
            slots: info.slots,
            speed: self.engine.speed(),
        }
    }
}

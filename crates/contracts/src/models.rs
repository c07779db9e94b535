//! `ModelRegistry`: which models exist, who published them and on what terms.

use crate::{
    bindings::models::{IModelRegistry, ModelRegistry as sol},
    connection::Provider,
    read::{ReadError, read},
    revert::Revert,
    wallet::{Confirmed, SendError, Wallet},
};
use alloy::{
    eips::BlockId,
    primitives::{Address, U256},
    sol_types::SolCall,
};
use cortensor_protocol::{ModelId, Price, Wei};

/// Most entries that one call lists.
const MAX_PAGE: usize = 100;

/// Why an operation on the model registry failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelsError {
    /// A read failed.
    #[error("cannot read {what} of the model registry")]
    Read {
        /// What was read.
        what: &'static str,
        /// Why it failed.
        source: ReadError,
    },
    /// A transaction failed.
    #[error("cannot {what}")]
    Send {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: SendError,
    },
    /// More entries asked of one call than the contract lists.
    #[error("a page has at most {MAX_PAGE} entries, not {0}")]
    PageTooLong(usize),
}

impl ModelsError {
    /// The contract's refusal, if that is what happened.
    #[must_use]
    pub fn revert(&self) -> Option<&Revert> {
        match self {
            Self::Read { source, .. } => source.revert(),
            Self::Send { source, .. } => source.revert(),
            Self::PageTooLong(_) => None,
        }
    }
}

/// Bounds on a model's prices. Sessions must allow the least and are never charged above the most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriceBounds {
    /// Least that a session must allow.
    pub least: Price,
    /// Most that is ever charged.
    pub most: Price,
}

impl PriceBounds {
    /// No bounds at all.
    pub const NONE: Self = Self {
        least: Price { input: Wei(0), output: Wei(0) },
        most: Price { input: Wei(u128::MAX), output: Wei(u128::MAX) },
    };
}

/// What a publisher chooses for a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelTerms {
    /// Share of every payment, in basis points; at most 2,000.
    pub royalty_bps: u16,
    /// Bounds on its prices.
    pub prices: PriceBounds,
    /// SPDX expression or a short name; at most 128 bytes.
    pub licence: String,
    /// Where its manifest is found; at most 512 bytes.
    pub manifest_uri: String,
}

/// A registered model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelEntry {
    /// Hash of its manifest.
    pub id: ModelId,
    /// Who governs it and earns the royalty.
    pub publisher: Address,
    /// What the publisher chose.
    pub terms: ModelTerms,
    /// Whether new sessions for it are refused.
    pub retired: bool,
    /// Registration, in seconds since 1970.
    pub registered_at: u64,
}

/// The model registry at one address.
#[derive(Clone, Debug)]
pub struct Models {
    provider: Provider,
    address: Address,
}

impl Models {
    /// The registry at `address`.
    #[must_use]
    pub fn new(provider: Provider, address: Address) -> Self {
        Self { provider, address }
    }

    /// Where it is deployed.
    #[must_use]
    pub fn address(&self) -> Address {
        self.address
    }

    /// A model, or `None` when it is not registered.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn get(&self, id: ModelId) -> Result<Option<ModelEntry>, ModelsError> {
        match read(&self.provider, self.address, &sol::modelCall { id: id.0 }, BlockId::latest()).await {
            Ok(model) => Ok(Some(model.into())),
            Err(error) if error.revert().is_some_and(|revert| revert.is("ModelUnknown")) => Ok(None),
            Err(source) => Err(ModelsError::Read { what: "a model", source }),
        }
    }

    /// How many models are registered.
    ///
    /// # Errors
    /// When the read fails.
    pub async fn count(&self) -> Result<u64, ModelsError> {
        let count = self.read("the number of models", &sol::modelCountCall {}).await?;
        u64::try_from(count).map_err(|_| ModelsError::Read {
            what: "the number of models",
            source: ReadError::out_of_range("the number of models", &count),
        })
    }

    /// Up to `limit` models from position `offset`, in the order of registration.
    ///
    /// # Errors
    /// When the read fails or `limit` is above 100.
    pub async fn page(&self, offset: u64, limit: usize) -> Result<Vec<ModelEntry>, ModelsError> {
        if limit > MAX_PAGE {
            return Err(ModelsError::PageTooLong(limit));
        }
        let call = sol::modelsCall { offset: U256::from(offset), limit: U256::from(limit) };
        Ok(self.read("a page of models", &call).await?.into_iter().map(ModelEntry::from).collect())
    }

    /// Publishes a model; the wallet becomes its publisher.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn register(&self, wallet: &Wallet, id: ModelId, terms: &ModelTerms) -> Result<Confirmed, ModelsError> {
        let call = sol::registerCall {
            id: id.0,
            royaltyBps: terms.royalty_bps,
            prices: terms.prices.into(),
            licence: terms.licence.clone(),
            manifestURI: terms.manifest_uri.clone(),
        };
        self.send(wallet, "register the model", &call).await
    }

    /// Changes royalty and prices for sessions opened from now on.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_terms(
        &self,
        wallet: &Wallet,
        id: ModelId,
        royalty_bps: u16,
        prices: PriceBounds,
    ) -> Result<Confirmed, ModelsError> {
        let call = sol::setTermsCall { id: id.0, royaltyBps: royalty_bps, prices: prices.into() };
        self.send(wallet, "change the model's terms", &call).await
    }

    /// Stops new sessions for a model, or allows them again.
    ///
    /// # Errors
    /// When the transaction fails.
    pub async fn set_retired(&self, wallet: &Wallet, id: ModelId, retired: bool) -> Result<Confirmed, ModelsError> {
        self.send(wallet, "retire the model", &sol::setRetiredCall { id: id.0, retired }).await
    }

    async fn read<C: SolCall>(&self, what: &'static str, call: &C) -> Result<C::Return, ModelsError> {
        let answer = read(&self.provider, self.address, call, BlockId::latest()).await;
        answer.map_err(|source| ModelsError::Read { what, source })
    }

    async fn send<C: SolCall>(&self, wallet: &Wallet, what: &'static str, call: &C) -> Result<Confirmed, ModelsError> {
        wallet.call(self.address, call).await.map_err(|source| ModelsError::Send { what, source })
    }
}

impl From<PriceBounds> for IModelRegistry::PriceBounds {
    fn from(bounds: PriceBounds) -> Self {
        Self {
            minInput: bounds.least.input.0,
            maxInput: bounds.most.input.0,
            minOutput: bounds.least.output.0,
            maxOutput: bounds.most.output.0,
        }
    }
}

impl From<IModelRegistry::PriceBounds> for PriceBounds {
    fn from(bounds: IModelRegistry::PriceBounds) -> Self {
        Self {
            least: Price { input: Wei(bounds.minInput), output: Wei(bounds.minOutput) },
            most: Price { input: Wei(bounds.maxInput), output: Wei(bounds.maxOutput) },
        }
    }
}

impl From<IModelRegistry::Model> for ModelEntry {
    fn from(model: IModelRegistry::Model) -> Self {
        Self {
            id: ModelId(model.id),
            publisher: model.publisher,
            terms: ModelTerms {
                royalty_bps: model.royaltyBps,
                prices: model.prices.into(),
                licence: model.licence,
                manifest_uri: model.manifestURI,
            },
            retired: model.retired,
            registered_at: model.registeredAt,
        }
    }
}

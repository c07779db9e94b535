//! Signed token transfers to measure with.

use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, Bytes, TxKind, U256, hex, keccak256},
    signers::{SignerSync as _, local::PrivateKeySigner},
    sol,
    sol_types::{SolCall as _, SolValue as _},
};

use super::BenchError;
use crate::config::DEVELOPMENT_KEYS;

/// Accounts that send at the same time.
pub(super) const SENDERS: usize = 64;
/// A prime, so that one holder after the other is far away from it.
const HOLDER_STRIDE: usize = 7_919;
const GAS_PRICE_WEI: u128 = 100_000_000_000;
const TOKEN_CODE: &str = include_str!("../../contracts/token.hex");

sol! {
    function transfer(address to, uint256 value) external returns (bool);
}

/// Signs transfers for a chain on which nobody else sends anything.
#[derive(Clone, Debug)]
pub struct Load {
    chain_id: u64,
    token: Address,
    senders: Vec<PrivateKeySigner>,
    /// Transfers signed so far.
    signed: usize,
    /// Of those, how many went to somebody new.
    holders: usize,
}

/// Where transfers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Each to an account that held no tokens before.
    NewHolders,
    /// To accounts that hold some, far apart from each other.
    Holders,
}

impl Load {
    /// Nothing signed yet, and what is to be sent before: one deployment and one transfer to each sender, by the first
    /// development account, in order.
    pub fn new(chain_id: u64) -> Result<(Self, Vec<Bytes>), BenchError> {
        let owner = PrivateKeySigner::from_bytes(&DEVELOPMENT_KEYS[0]);
        let owner = owner.map_err(|error| BenchError::Broken(error.to_string()))?;
        let senders: Vec<_> = (0..SENDERS).map(sender).collect();
        let code = hex::decode(TOKEN_CODE.trim()).map_err(|error| BenchError::Broken(error.to_string()))?;
        let input = [code, U256::MAX.abi_encode()].concat();
        let token = owner.address().create(0);
        let mut setup = vec![sign(chain_id, &owner, 0, TxKind::Create, input, 2_000_000)?];
        for (nonce, sender) in (1..).zip(&senders) {
            let call = transferCall { to: sender.address(), value: U256::from(u64::MAX) };
            setup.push(sign(chain_id, &owner, nonce, token.into(), call.abi_encode(), 100_000)?);
        }
        Ok((Self { chain_id, token, senders, signed: 0, holders: 0 }, setup))
    }

    /// The senders, who need coins for gas. Transfer *i* of a list is of sender *i* modulo their number.
    #[must_use]
    pub fn senders(&self) -> Vec<Address> {
        self.senders.iter().map(PrivateKeySigner::address).collect()
    }

    /// How many transactions each sender has signed.
    #[must_use]
    pub fn nonce(&self) -> u64 {
        (self.signed / SENDERS) as u64
    }

    /// The next transfers, rounded up to a multiple of the senders.
    pub fn transfers(&mut self, count: usize, to: To) -> Result<Vec<Bytes>, BenchError> {
        let count = count.next_multiple_of(SENDERS);
        let (first, known) = (self.signed, self.holders);
        let holder = |index: usize| match to {
            To::NewHolders => known + index,
            To::Holders => (first + index).wrapping_mul(HOLDER_STRIDE) % known.max(1),
        };
        let transfers = (0..count).map(|index| self.transfer(first + index, holder(index))).collect();
        self.signed += count;
        self.holders += if to == To::NewHolders { count } else { 0 };
        transfers
    }

    fn transfer(&self, index: usize, holder: usize) -> Result<Bytes, BenchError> {
        let recipient = Address::from_word(keccak256((holder as u64).to_be_bytes()));
        let call = transferCall { to: recipient, value: U256::from(1) };
        let nonce = (index / SENDERS) as u64;
        sign(self.chain_id, &self.senders[index % SENDERS], nonce, self.token.into(), call.abi_encode(), 100_000)
    }
}

fn sender(index: usize) -> PrivateKeySigner {
    let seed = keccak256([b"benchmark sender".as_slice(), &index.to_be_bytes()].concat());
    PrivateKeySigner::from_bytes(&seed).expect("a hash is a valid key but for odds of one in 2^128")
}

fn sign(
    chain_id: u64,
    signer: &PrivateKeySigner,
    nonce: u64,
    to: TxKind,
    input: Vec<u8>,
    gas_limit: u64,
) -> Result<Bytes, BenchError> {
    let tx = TxEip1559 {
        chain_id,
        nonce,
        gas_limit,
        max_fee_per_gas: GAS_PRICE_WEI,
        max_priority_fee_per_gas: 1,
        to,
        input: input.into(),
        ..TxEip1559::default()
    };
    let hash: B256 = tx.signature_hash();
    let signature = signer.sign_hash_sync(&hash).map_err(|error| BenchError::Broken(error.to_string()))?;
    Ok(TxEnvelope::from(tx.into_signed(signature)).encoded_2718().into())
}

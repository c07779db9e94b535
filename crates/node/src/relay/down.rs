//! From the upper chain to the chain of validators: attested blocks, the outbox's accumulator, claims.

use super::{FinalBlock, Progress, Relay, RelayError, done_before, head};
use alloy::{
    consensus::Header,
    eips::{BlockId, BlockNumberOrTag},
    primitives::{B256, Bytes},
    providers::Provider as _,
    rlp,
    signers::SignerSync as _,
};
use cortensor_protocol::consensus::Domain;

impl Relay {
    pub(super) async fn step_down(&mut self, done: &mut Progress) -> Result<(), RelayError> {
        let known = self.foreign.latest().await?;
        if known != 0 {
            self.prove_down(known, done).await?;
        }
        if let Some(number) = self.attestable().await? {
            self.attest(number, done).await?;
            if self.foreign.block_hash(number).await?.is_some() {
                self.prove_down(number, done).await?;
            }
        }
        if self.settings.claim {
            done.claims += self.down.claim(&self.lower.wallet).await?;
        }
        Ok(())
    }

    /// The newest final block of which the lower chain should know, because there are messages in it; all validators come to
    /// the same one because its number is a multiple of the stride.
    async fn attestable(&mut self) -> Result<Option<u64>, RelayError> {
        let Some(last) = self.last_final().await? else { return Ok(None) };
        let number = last - last % self.settings.stride_blocks.max(1);
        let waiting = number != 0 && self.down.unproven("upper", number).await?.is_some();
        Ok(waiting.then_some(number))
    }

    async fn last_final(&self) -> Result<Option<u64>, RelayError> {
        let provider = &self.upper.provider;
        match self.settings.finality {
            FinalBlock::Confirmations(depth) => Ok(head("upper", provider).await?.checked_sub(depth)),
            FinalBlock::Finalized => {
                let block = provider.get_block(BlockId::Number(BlockNumberOrTag::Finalized)).await;
                let block = block.map_err(|error| RelayError::Rpc("upper", error))?;
                Ok(block.map(|block| block.header.number))
            }
        }
    }

    /// Says what this validator sees, if it is one and has not said it.
    async fn attest(&self, number: u64, done: &mut Progress) -> Result<(), RelayError> {
        let Some(key) = &self.attester else { return Ok(()) };
        if self.foreign.block_hash(number).await?.is_some() {
            return Ok(());
        }
        let epoch = self.validators.current_epoch().await?;
        let height = head("lower", &self.lower.provider).await?;
        let set = self.validators.set_at(height).await?;
        let Some(place) = set.validators().iter().position(|member| member.address == key.address()) else {
            return Ok(());
        };
        if self.foreign.has_attested(epoch, number, key.address()).await? {
            return Ok(());
        }
        let (hash, _) = self.upper_header(number).await?;
        let (own, foreign) = (self.lower.wallet.chain_id(), self.upper.wallet.chain_id());
        let digest = Domain::new(own).foreign_block(foreign, number, hash);
        let signature = key.sign_hash_sync(&digest).expect("a local key signs every hash");
        let signed = [(place, Bytes::copy_from_slice(&signature.as_bytes()))];
        let sent = self.foreign.attest(&self.lower.wallet, number, hash, &signed).await;
        done.attestations += u32::from(done_before(sent)?);
        Ok(())
    }

    async fn prove_down(&mut self, number: u64, done: &mut Progress) -> Result<(), RelayError> {
        let Some(count) = self.down.unproven("upper", number).await? else { return Ok(()) };
        let (_, header) = self.upper_header(number).await?;
        let proof = self.down.outbox.proof_at(number).await?;
        self.down.inbox.prove(&self.lower.wallet, &header, &proof).await?;
        self.down.proven = count;
        done.proofs += 1;
        Ok(())
    }

    /// A block's hash and its header in RLP, which hashes to it.
    async fn upper_header(&self, number: u64) -> Result<(B256, Bytes), RelayError> {
        let missing = || RelayError::BlockMissing { chain: "upper", number };
        let block = self.upper.provider.get_block(BlockId::number(number)).await;
        let block = block.map_err(|error| RelayError::Rpc("upper", error))?.ok_or_else(missing)?;
        let header: Header = block.header.inner;
        // A field that this version does not know would be left out of the encoding: better no proof than a wrong one.
        if header.hash_slow() != block.header.hash {
            return Err(missing());
        }
        Ok((block.header.hash, Bytes::from(rlp::encode(&header))))
    }
}

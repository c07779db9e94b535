//! From the chain of validators to the one that it settles on: checkpoints, the outbox's accumulator, claims.

use super::{Progress, Relay, RelayError, chain_of, done_before, head};
use cortensor_bls::Aggregate;
use cortensor_contracts::lanes::CertifiedBlock;

impl Relay {
    pub(super) async fn step_up(&mut self, done: &mut Progress) -> Result<(), RelayError> {
        let top = head("lower", &self.lower.provider).await?;
        self.end_epochs(top, done).await?;
        self.checkpoint_messages(top, done).await?;
        if self.settings.claim {
            done.claims += self.up.claim(&self.upper.wallet).await?;
        }
        Ok(())
    }

    /// Every epoch's last block is needed: it names the set that the next epoch's blocks are decided by.
    async fn end_epochs(&mut self, top: u64, done: &mut Progress) -> Result<(), RelayError> {
        let length = u64::from(self.checkpoints.epoch_length_blocks().await?);
        loop {
            let next = self.checkpoints.latest().await? + 1;
            let last = (next / length + 1) * length - 1;
            if last > top {
                return Ok(());
            }
            let block = self.certified(last).await?.ok_or(RelayError::CertificateMissing(last))?;
            self.submit(last, &block, done).await?;
        }
    }

    /// A checkpoint where messages wait, and the proof of what the outbox holds there.
    async fn checkpoint_messages(&mut self, top: u64, done: &mut Progress) -> Result<(), RelayError> {
        // Somebody's checkpoint may hold them already.
        let latest = self.checkpoints.latest().await?;
        self.prove_up(latest, done).await?;
        if self.up.unproven("lower", top).await?.is_none() || top <= latest {
            return Ok(());
        }
        // The newest block may not have its certificate yet: the next step finds it.
        let Some(block) = self.certified(top).await? else { return Ok(()) };
        self.submit(top, &block, done).await?;
        let latest = self.checkpoints.latest().await?;
        self.prove_up(latest, done).await
    }

    /// With one signature for all where there is one and it is cheaper; else, whatever the reason, with the certificate.
    async fn submit(&mut self, height: u64, block: &CertifiedBlock, done: &mut Progress) -> Result<(), RelayError> {
        if let Some(aggregate) = self.aggregate(height, block).await {
            match done_before(self.checkpoints.submit_aggregated(&self.upper.wallet, block, &aggregate).await) {
                Ok(first) => {
                    done.checkpoints += u32::from(first);
                    done.aggregated += u32::from(first);
                    return Ok(());
                }
                Err(error) => tracing::warn!(error = %chain_of(&error), "the certificate is taken instead"),
            }
        }
        done.checkpoints += u32::from(done_before(self.checkpoints.submit(&self.upper.wallet, block).await)?);
        Ok(())
    }

    async fn aggregate(&mut self, height: u64, block: &CertifiedBlock) -> Option<Aggregate> {
        let payer = (&self.upper.wallet, self.lower.wallet.chain_id());
        let aggregator = self.aggregator.as_mut()?;
        match aggregator.prepare(&self.checkpoints, payer, self.keys_since, (height, block)).await {
            Ok(aggregate) => aggregate,
            Err(error) => {
                tracing::warn!(error = %chain_of(&error), "no signature for all: the certificate is taken");
                None
            }
        }
    }

    async fn prove_up(&mut self, height: u64, done: &mut Progress) -> Result<(), RelayError> {
        let Some(count) = self.up.unproven("lower", height).await? else { return Ok(()) };
        // Nothing is final at this height after a fork was reported.
        if self.checkpoints.block_hash(height).await?.is_none() {
            return Ok(());
        }
        let Some(block) = self.certified(height).await? else { return Ok(()) };
        let proof = self.up.outbox.proof_at(height).await?;
        self.up.inbox.prove(&self.upper.wallet, &block.header, &proof).await?;
        self.up.proven = count;
        done.proofs += 1;
        Ok(())
    }

    /// A block with a certificate that holds, on the lower chain; whether by the right set, the contract knows.
    async fn certified(&self, height: u64) -> Result<Option<CertifiedBlock>, RelayError> {
        let found = self.certificates.certificate(height).await;
        let Some(block) = found.map_err(|error| RelayError::Source(height, error))? else { return Ok(None) };
        block.check(self.lower.wallet.chain_id()).map_err(|error| RelayError::Certificate(height, error))?;
        Ok(Some(block))
    }
}

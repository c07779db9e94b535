//! `cortensor l3 export-audit`: what the chain says, as lines that can be checked without it.

use super::{
    Home,
    audit_file::{Line, Told, export_hash, header_of},
};
use crate::{cli::l3::ExportArgs, output};
use alloy::{
    consensus::Header,
    eips::{BlockNumberOrTag, eip2718::Encodable2718 as _},
    network::Ethereum,
    primitives::{Bytes, Keccak256},
    providers::Provider as _,
    signers::SignerSync as _,
};
use cortensor_consensus::home;
use cortensor_contracts::{Provider, lanes::CertifiedBlock};
use cortensor_node::relay::{CertificateSource as _, RpcCertificates};
use eyre::{Context, ensure, eyre};
use futures::StreamExt as _;
use std::{
    fs::File,
    io::{BufWriter, Write as _},
    process::ExitCode,
};

/// Blocks that are asked for at once.
const AT_ONCE: usize = 8;

pub(super) async fn run(arguments: &ExportArgs) -> eyre::Result<ExitCode> {
    let home = Home::open(&arguments.home)?;
    let provider = home.provider().await?;
    let newest = provider.get_block_number().await?;
    let to = arguments.to.unwrap_or(newest);
    ensure!(to <= newest, "block {to} is not decided yet, the newest is {newest}");
    let file = File::create_new(&arguments.out);
    let file = file.wrap_err_with(|| format!("cannot make {}", arguments.out.display()))?;
    let mut lines = Writer { file: BufWriter::new(file), digest: Keccak256::new() };
    let deployment = home.deployment()?;
    let told = Told::of(&deployment);
    lines.write(&Line::Network {
        name: home.network.name.clone(),
        network: Box::new(home::read(&home.folder.join(home::NETWORK_FILE))?),
        deployment: Box::new(deployment),
        genesis: alloy::rlp::encode(header(&provider, 0).await?).into(),
        to,
    })?;
    let mut blocks = futures::stream::iter(1..=to).map(|number| block(&provider, number)).buffered(AT_ONCE);
    let mut events = 0;
    while let Some(line) = blocks.next().await {
        let line = line?;
        lines.write(&line)?;
        let Line::Block { block, receipts, .. } = &line else { continue };
        for event in told.events(block.certificate.height, receipts)? {
            lines.write(&event)?;
            events += 1;
        }
    }
    let digest = lines.digest.clone().finalize();
    let signature = home.account.sign_hash_sync(&export_hash(home.network.chain_id, digest, to))?;
    let signature = Bytes::copy_from_slice(&signature.as_bytes());
    lines.write(&Line::Signature { signer: home.account.address(), digest, signature })?;
    lines.file.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
    output::say(format!("{to} blocks and {events} events are in {}", arguments.out.display()));
    Ok(ExitCode::SUCCESS)
}

struct Writer {
    file: BufWriter<File>,
    digest: Keccak256,
}

impl Writer {
    fn write(&mut self, line: &Line) -> eyre::Result<()> {
        let text = serde_json::to_string(line)? + "\n";
        self.digest.update(text.as_bytes());
        self.file.write_all(text.as_bytes()).wrap_err("cannot write the export")
    }
}

async fn header(provider: &Provider, number: u64) -> eyre::Result<Header> {
    let block = provider.get_block_by_number(BlockNumberOrTag::Number(number)).await?;
    Ok(block.ok_or_else(|| eyre!("the node has no block {number}: was it pruned?"))?.header.inner)
}

async fn block(provider: &Provider, number: u64) -> eyre::Result<Line> {
    let missing = || eyre!("the node has no block {number} with a certificate: was it pruned?");
    let certified: CertifiedBlock = RpcCertificates(provider.clone()).certificate(number).await?.ok_or_else(missing)?;
    let (mut transactions, mut receipts) = (Vec::new(), Vec::new());
    if header_of(&certified)?.transactions_root != alloy::consensus::EMPTY_ROOT_HASH {
        let tag = BlockNumberOrTag::Number(number);
        let full = alloy::providers::Provider::<Ethereum>::get_block_by_number(provider, tag).full().await?;
        let full = full.ok_or_else(missing)?.transactions;
        transactions = full.into_transactions().map(|one| one.inner.inner().encoded_2718().into()).collect();
        let found = provider.get_block_receipts(tag.into()).await?.ok_or_else(missing)?;
        receipts = found.into_iter().map(|one| one.into_primitives_receipt().inner.encoded_2718().into()).collect();
    }
    Ok(Line::Block { block: Box::new(certified), transactions, receipts })
}

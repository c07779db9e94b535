//! The seam for another engine: a block built by one chain is checked and committed by another.

use alloy::{
    network::TransactionBuilder as _,
    primitives::{Address, Bytes, U256, address},
    providers::Provider as _,
    rpc::types::TransactionRequest,
};
use async_trait::async_trait;
use cortensor_chain::{
    BlockProducer, Chain, CheckError, Config, Consensus, ConsensusError, ExecuteError, ProposedBlock,
};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::harness::{CHAIN_ID, Client, World, signer};

const RECIPIENT: Address = address!("00000000000000000000000000000000000000ae");

/// An engine that is told by the test what to do.
struct Puppet(mpsc::Receiver<Order>);

pub(crate) enum Order {
    Propose(oneshot::Sender<ProposedBlock>),
    Accept(Box<ProposedBlock>, oneshot::Sender<Result<(), CheckError>>),
}

#[async_trait]
impl Consensus for Puppet {
    async fn run(
        mut self: Box<Self>,
        mut producer: BlockProducer,
        stop: CancellationToken,
    ) -> Result<(), ConsensusError> {
        loop {
            let order = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                order = self.0.recv() => order,
            };
            match order {
                None => return Ok(()),
                Some(Order::Propose(reply)) => {
                    producer.transactions_ready().await;
                    let attributes = producer.attributes();
                    let _ = reply.send(producer.build(attributes).await?.to_block());
                }
                Some(Order::Accept(block, reply)) => match producer.check(*block).await {
                    Ok(proposal) => {
                        producer.commit(proposal, Bytes::from_static(b"certificate")).await?;
                        let _ = reply.send(Ok(()));
                    }
                    Err(error) => {
                        let _ = reply.send(Err(error));
                    }
                },
            }
        }
    }
}

async fn puppet() -> (World, mpsc::Sender<Order>) {
    puppet_of(Config::development(CHAIN_ID)).await
}

pub(crate) async fn puppet_of(config: Config) -> (World, mpsc::Sender<Order>) {
    let (orders, receiver) = mpsc::channel(1);
    let chain = Chain::start_with(config, Box::new(Puppet(receiver))).await.unwrap();
    let client = Client::new(&chain.http_url());
    (World { chain, client }, orders)
}

pub(crate) async fn propose(orders: &mpsc::Sender<Order>) -> ProposedBlock {
    let (reply, block) = oneshot::channel();
    orders.send(Order::Propose(reply)).await.ok().unwrap();
    block.await.unwrap()
}

pub(crate) async fn accept(orders: &mpsc::Sender<Order>, block: ProposedBlock) -> Result<(), CheckError> {
    let (reply, outcome) = oneshot::channel();
    orders.send(Order::Accept(Box::new(block), reply)).await.ok().unwrap();
    outcome.await.unwrap()
}

async fn send(world: &World) {
    let transfer =
        TransactionRequest::default().with_from(signer(0).address()).with_to(RECIPIENT).with_value(U256::from(1));
    let _ = world.client.provider.send_transaction(transfer).await.unwrap();
}

#[tokio::test]
async fn two_chains_agree_on_a_block_that_one_of_them_built() {
    let (first, first_orders) = puppet().await;
    let (second, second_orders) = puppet().await;
    assert_eq!(first.chain.head(), second.chain.head());
    for number in 1..=3 {
        send(&first).await;
        let block = propose(&first_orders).await;
        assert_eq!(block.transactions.len(), 1);
        let wire = alloy::rlp::encode(&block);
        let arrived = alloy::rlp::decode_exact::<ProposedBlock>(&wire).unwrap();
        accept(&second_orders, arrived).await.unwrap();
        accept(&first_orders, block).await.unwrap();
        assert_eq!(first.chain.head(), second.chain.head());
        assert_eq!(second.chain.head().number, number);
    }
    assert_eq!(second.client.provider.get_balance(RECIPIENT).await.unwrap(), U256::from(3));
    assert_eq!(second.chain.certificate(2).unwrap(), Some(Bytes::from_static(b"certificate")));
}

#[tokio::test]
async fn a_block_that_lies_is_refused_with_the_reason() {
    let (first, first_orders) = puppet().await;
    let (_second, second_orders) = puppet().await;
    send(&first).await;
    let honest = propose(&first_orders).await;
    let refused = async |change: &dyn Fn(&mut ProposedBlock)| {
        let mut block = honest.clone();
        change(&mut block);
        accept(&second_orders, block).await.unwrap_err()
    };
    assert!(matches!(refused(&|b| b.header.state_root.0[0] ^= 1).await, CheckError::Header { .. }));
    assert!(matches!(refused(&|b| b.header.gas_used += 1).await, CheckError::Header { .. }));
    assert!(matches!(refused(&|b| b.header.gas_limit += 1).await, CheckError::Header { .. }));
    assert!(matches!(refused(&|b| b.header.base_fee_per_gas = Some(1)).await, CheckError::Header { .. }));
    assert!(matches!(refused(&|b| b.transactions.clear()).await, CheckError::Header { .. }));
    assert!(matches!(refused(&|b| b.header.parent_hash.0[0] ^= 1).await, CheckError::Parent { .. }));
    assert!(matches!(refused(&|b| b.header.timestamp += 3_600).await, CheckError::Timestamp { .. }));
    assert!(matches!(refused(&|b| b.transactions[0] = Bytes::new()).await, CheckError::Transaction { index: 0, .. }));
    let twice = refused(&|b| b.transactions.push(b.transactions[0].clone())).await;
    assert!(matches!(twice, CheckError::Execute(ExecuteError::Transaction { .. })), "{twice:?}");
    accept(&second_orders, honest).await.unwrap();
}

#[tokio::test]
async fn a_chain_whose_engine_gives_up_says_so() {
    let (world, orders) = puppet().await;
    drop(orders);
    world.chain.stopped().await;
    let transfer =
        TransactionRequest::default().with_from(signer(0).address()).with_to(RECIPIENT).with_value(U256::from(1));
    let error = world.client.provider.send_transaction(transfer).await.unwrap_err();
    assert!(error.to_string().contains("the chain has stopped"), "{error}");
}

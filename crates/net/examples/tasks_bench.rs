//! Prints what one task costs on the transport: processor time of router and miner together, over loopback, for a
//! stream of 32 frames of one token each and for the same tokens in one frame. Linux only (reads `/proc/self/stat`).

use alloy_primitives::{Address, B256, Signature};
use async_trait::async_trait;
use cortensor_net::{
    Admission, DialConfig, DialEnds, Endpoint, IncomingTask, ListenConfig, Listener, MinerConnection, NetConfig,
    OperatorSigner, RouterCheck, TransportSecret, WelcomeExtras, dial,
};
use cortensor_protocol::{
    LogProb, Operator, Price, Signature65, TaskHeader, Tier, TokenEvent, TransportKey,
    task::SignedHeader,
    wire::{Challenge, EmbedTask, Hello, RefusalCode, TaskOpen, TaskReply},
};
use futures::future::join_all;
use k256::ecdsa::SigningKey;
use std::{error::Error, sync::Arc, time::Instant};
use tokio::sync::{mpsc, watch};

const TASKS: usize = 4_000;
const AT_ONCE: usize = 16;
const FRAMES: usize = 32;

struct Key(SigningKey);

impl OperatorSigner for Key {
    fn operator(&self) -> Operator {
        Operator(Address::from_private_key(&self.0))
    }

    fn sign_hash(&self, hash: B256) -> Signature65 {
        let (signature, recovery) = self.0.sign_prehash_recoverable(hash.as_slice()).expect("32 bytes can be signed");
        Signature::from_signature_and_parity(signature, recovery.is_y_odd()).into()
    }
}

/// Lets everybody in: there is nobody else here.
struct Open;

#[async_trait]
impl Admission for Open {
    async fn admit(&self, _: TransportKey, _: &Hello) -> Result<WelcomeExtras, (RefusalCode, String)> {
        Ok(WelcomeExtras::default())
    }
}

#[async_trait]
impl RouterCheck for Open {
    async fn check(&self, _: TransportKey, _: &Challenge) -> Result<(), (RefusalCode, String)> {
        Ok(())
    }
}

fn signer(byte: u8) -> Arc<Key> {
    Arc::new(Key(SigningKey::from_slice(&[byte; 32]).expect("a small number is a secret key")))
}

fn task() -> TaskOpen {
    let header = TaskHeader {
        task: B256::ZERO.into(),
        session: B256::ZERO.into(),
        model: B256::ZERO.into(),
        request_hash: B256::ZERO,
        sampling: B256::ZERO,
        seed: B256::ZERO,
        max_tokens: 32,
        min_tier: Tier::D,
        client_nonce: 0,
        deadline: 0,
    };
    let header = SignedHeader { header, signature: Signature65([7; 65]) };
    let inputs = vec!["What is the capital of France?".repeat(10)];
    TaskOpen::Embed(Box::new(EmbedTask { header, inputs, price: Price::default() }))
}

async fn serve(mut task: IncomingTask, batched: bool) {
    let token = TokenEvent { id: Some(1), text: " token".into(), logprob: Some(LogProb(-9)), top: vec![] };
    for _ in 0..FRAMES {
        let reply = TaskReply::Tokens(vec![token.clone()]);
        let sent = if batched { task.replies.queue(reply) } else { task.replies.send(reply).await };
        if sent.is_err() {
            return;
        }
        if !batched {
            tokio::task::yield_now().await;
        }
    }
    // The router has left in the meantime, or it has it all.
    let _ = task.replies.finish().await;
}

async fn ask(connection: MinerConnection, times: usize) -> Result<usize, Box<dyn Error + Send + Sync>> {
    let mut tokens = 0;
    for _ in 0..times {
        let mut channel = connection.open_task(&task()).await?;
        while let Some(reply) = channel.recv().await? {
            if let TaskReply::Tokens(batch) = reply {
                tokens += batch.len();
            }
        }
    }
    Ok(tokens)
}

/// User and system time of this process, in microseconds.
fn processor_us() -> Result<f64, Box<dyn Error + Send + Sync>> {
    const TICKS_PER_SECOND: f64 = 100.0;
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|field| field.parse::<f64>().ok()).unwrap_or_default();
    Ok((ticks(11) + ticks(12)) * 1e6 / TICKS_PER_SECOND)
}

#[tokio::main]
#[expect(clippy::print_stdout, reason = "printing is what this program is for")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let listen = "127.0.0.1:0".parse()?;
    let router = Endpoint::bind(NetConfig::new(TransportSecret::generate(), listen)).await?;
    let miner = Endpoint::bind(NetConfig::new(TransportSecret::generate(), listen)).await?;
    let mut listener = Listener::start(&router, ListenConfig::new(1, signer(1), Arc::new(Open)));
    let (_offers, offers) = watch::channel(vec![]);
    let (_loads, loads) = watch::channel(vec![]);
    let (tasks, mut arriving) = mpsc::channel(1_024);
    let (events, mut news) = mpsc::channel(64);
    let address = router.node_address().ok_or("the router listens nowhere")?;
    let config = DialConfig::new(address, 1, signer(2), Arc::new(Open), "bench");
    let _dialer = dial(&miner, config, DialEnds { offers, loads, tasks, events });
    let accepted = listener.accept().await.ok_or("the router is closed")?;
    tokio::spawn(async move { while news.recv().await.is_some() {} });
    let (choose, batched) = watch::channel(false);
    tokio::spawn(async move {
        while let Some(task) = arriving.recv().await {
            tokio::spawn(serve(task, *batched.borrow()));
        }
    });
    for (batched, name) in [(false, "32 frames"), (true, "1 frame")] {
        choose.send_replace(batched);
        let (begin, before) = (Instant::now(), processor_us()?);
        let askers = (0..AT_ONCE).map(|_| tokio::spawn(ask(accepted.connection.clone(), TASKS / AT_ONCE)));
        let mut tokens = 0;
        for asker in join_all(askers).await {
            tokens += asker??;
        }
        assert_eq!(tokens, TASKS * FRAMES, "every token arrived");
        let (wall, processor) = (begin.elapsed().as_secs_f64(), processor_us()? - before);
        let per_task = processor / TASKS as f64;
        println!("{per_task:8.1} CPU-us a task, {:8.0} tasks a second: 32 tokens in {name}", TASKS as f64 / wall);
    }
    Ok(())
}

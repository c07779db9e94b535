//! Tasks: many at once, slow readers, cancellation, and broken streams.

use crate::nodes::{Miner, Registry, Router, limits, soon, task, text_of};
use cortensor_net::{AcceptedMiner, Dialer, FrameError, Limits};
use cortensor_protocol::{
    LogProb, TokenEvent,
    wire::{FailureCode, TaskControl, TaskFailure, TaskReply},
};
use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

fn token(text: &str) -> TokenEvent {
    TokenEvent { id: Some(1), text: text.into(), logprob: Some(LogProb(-1)), top: vec![] }
}

async fn pair() -> (Router, Miner, AcceptedMiner, Dialer) {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let miner = Miner::start(2, &registry).await;
    let dialer = miner.dial(&router.address);
    let accepted = router.accept().await;
    (router, miner, accepted, dialer)
}

#[tokio::test]
async fn a_task_goes_there_and_back() {
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let mut channel = accepted.connection.open_task(&task("hello")).await.unwrap();
    let mut incoming = miner.task().await;
    assert_eq!(text_of(&incoming.open), "hello");
    assert_eq!(incoming.router_key, _router.endpoint.key());
    // Tokens in line share a frame, and other messages keep their place.
    for part in ["a", "b", "c"] {
        incoming.replies.queue(TaskReply::Tokens(vec![token(part)])).unwrap();
    }
    incoming.replies.send(TaskReply::Paid).await.unwrap();
    let expect = TaskReply::Tokens(vec![token("a"), token("b"), token("c")]);
    assert_eq!(soon(channel.recv()).await.unwrap(), Some(expect));
    assert_eq!(soon(channel.recv()).await.unwrap(), Some(TaskReply::Paid));
    channel.send(&TaskControl::Cancel).await.unwrap();
    assert_eq!(soon(incoming.controls.recv()).await.unwrap(), Some(TaskControl::Cancel));
    incoming.replies.finish().await.unwrap();
    assert_eq!(soon(channel.recv()).await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_tasks_at_once_keep_their_order_and_apart() {
    const TASKS: usize = 200;
    const TOKENS: usize = 40;
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let worker = tokio::spawn(async move {
        for _ in 0..TASKS {
            let mut incoming = miner.task().await;
            tokio::spawn(async move {
                let text = text_of(&incoming.open).to_owned();
                for number in 0..TOKENS {
                    incoming.replies.send(TaskReply::Tokens(vec![token(&format!("{text}:{number}"))])).await.unwrap();
                    tokio::task::yield_now().await;
                }
                incoming.replies.finish().await.unwrap();
            });
        }
    });
    let clients = (0..TASKS).map(|number| {
        let connection = accepted.connection.clone();
        tokio::spawn(async move {
            let mut channel = connection.open_task(&task(&number.to_string())).await.unwrap();
            let mut got = Vec::new();
            while let Some(reply) = channel.recv().await.unwrap() {
                let TaskReply::Tokens(tokens) = reply else { panic!("only tokens are sent") };
                got.extend(tokens.into_iter().map(|token| token.text));
            }
            let expect: Vec<_> = (0..TOKENS).map(|token| format!("{number}:{token}")).collect();
            assert_eq!(got, expect);
        })
    });
    for client in soon(futures::future::join_all(clients)).await {
        client.unwrap();
    }
    soon(worker).await.unwrap();
}

#[tokio::test]
async fn a_reader_that_stalls_stops_its_writer_and_nobody_else() {
    const FRAMES: usize = 400;
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let mut slow = accepted.connection.open_task(&task("slow")).await.unwrap();
    let mut incoming = miner.task().await;
    let written = Arc::new(AtomicUsize::new(0));
    let counter = written.clone();
    let writer = tokio::spawn(async move {
        for _ in 0..FRAMES {
            incoming.replies.send(TaskReply::Tokens(vec![token(&"x".repeat(10_000))])).await.unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
        }
        incoming.replies.finish().await.unwrap();
    });
    for _ in 0..20 {
        let mut quick = accepted.connection.open_task(&task("quick")).await.unwrap();
        let mut incoming = miner.task().await;
        incoming.replies.send(TaskReply::Paid).await.unwrap();
        assert_eq!(soon(quick.recv()).await.unwrap(), Some(TaskReply::Paid));
    }
    assert!(written.load(Ordering::SeqCst) < FRAMES / 4, "256 KiB fit the window, 4 MB were to be written");
    let mut frames = 0;
    while let Some(reply) = soon(slow.recv()).await.unwrap() {
        assert!(matches!(reply, TaskReply::Tokens(_)));
        frames += 1;
    }
    assert_eq!(frames, FRAMES);
    soon(writer).await.unwrap();
}

#[tokio::test]
async fn a_flush_that_is_broken_off_loses_and_repeats_nothing() {
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let mut channel = accepted.connection.open_task(&task("x")).await.unwrap();
    let mut incoming = miner.task().await;
    let texts: Vec<_> = (0..100).map(|number| format!("{number}{}", "y".repeat(20_000))).collect();
    for text in &texts {
        incoming.replies.queue(TaskReply::Tokens(vec![token(text)])).unwrap();
        incoming.replies.queue(TaskReply::Paid).unwrap();
    }
    let (mut got, mut flushed) = (Vec::new(), false);
    while got.len() < texts.len() {
        tokio::select! {
            biased;
            reply = channel.recv() => {
                if let Some(TaskReply::Tokens(tokens)) = reply.unwrap() {
                    got.extend(tokens.into_iter().map(|token| token.text));
                }
            }
            result = incoming.replies.flush(), if !flushed => {
                result.unwrap();
                flushed = true;
            }
        }
    }
    assert_eq!(got, texts);
}

#[tokio::test]
async fn a_router_that_drops_its_end_frees_the_miner() {
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let channel = accepted.connection.open_task(&task("x")).await.unwrap();
    let mut incoming = miner.task().await;
    let stopped = incoming.replies.stopped();
    drop(channel);
    assert_eq!(soon(incoming.controls.recv()).await.unwrap(), None);
    soon(stopped).await;
    let error = loop {
        if let Err(error) = incoming.replies.send(TaskReply::Paid).await {
            break error;
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(error, FrameError::Ended(_)), "{error}");
}

#[tokio::test]
async fn a_miner_that_drops_a_task_ends_its_stream() {
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let mut channel = accepted.connection.open_task(&task("x")).await.unwrap();
    drop(miner.task().await);
    assert_eq!(soon(channel.recv()).await, Ok(None));
}

#[tokio::test]
async fn work_beyond_the_bounds_is_answered_busy() {
    let registry = Arc::new(Registry::default());
    let mut router = Router::start(1, &registry).await;
    let narrow = Limits { tasks_per_connection: 2, ..limits() };
    let mut miner = Miner::unregistered(2, &registry, narrow, 1).await;
    registry.register(cortensor_net::OperatorSigner::operator(&*miner.signer), miner.endpoint.key());
    let _dialer = miner.dial(&router.address);
    let accepted = router.accept().await;
    let busy = |reply| matches!(reply, Some(TaskReply::Failed(TaskFailure { code: FailureCode::Busy, .. })));
    // One fits the queue, which nobody empties; the other does not, whichever arrives first.
    let mut first = accepted.connection.open_task(&task("1")).await.unwrap();
    let mut second = accepted.connection.open_task(&task("2")).await.unwrap();
    let (reply, first) = soon(async {
        tokio::select! {
            reply = first.recv() => (reply, second),
            reply = second.recv() => (reply, first),
        }
    })
    .await;
    assert!(busy(reply.unwrap()));
    // Two are in the miner's hands: the connection's bound.
    let one = miner.task().await;
    let third = accepted.connection.open_task(&task("3")).await.unwrap();
    let two = miner.task().await;
    let mut fourth = accepted.connection.open_task(&task("4")).await.unwrap();
    assert!(busy(soon(fourth.recv()).await.unwrap()));
    drop((one, two, first, third));
}

#[tokio::test]
async fn a_large_task_arrives_whole() {
    let (_router, mut miner, accepted, _dialer) = pair().await;
    let text = "z".repeat(5_000_000);
    let open = task(&text);
    let (channel, incoming) = tokio::join!(accepted.connection.open_task(&open), miner.task());
    assert_eq!(text_of(&incoming.open).len(), text.len());
    drop(channel);
}

//! Counters of a node of a chain of validators, in Prometheus' text form over HTTP.
//!
//! One request at a time, each with a deadline: this is for a scraper on the same machine, not for the world.

use cortensor_chain::MetricsSnapshot;
use cortensor_consensus::node::Metrics;
use cortensor_node::validator::DutyMetrics;
use std::{
    fmt::Write as _,
    io,
    sync::{Arc, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

/// A scraper that is slower than this is cut off.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Most bytes of a request; its head is all that is read.
const REQUEST_BYTES_MAX: usize = 8 * 1024;
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What is shown.
pub(super) struct Sources<C> {
    pub(super) chain: C,
    pub(super) consensus: Arc<Metrics>,
    pub(super) duties: Option<Arc<DutyMetrics>>,
}

/// Serves `GET /metrics` for as long as it is polled.
pub(super) async fn serve<C: Fn() -> MetricsSnapshot>(listener: TcpListener, sources: Sources<C>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A scraper that left or was too slow asks again.
                let _ = timeout(REQUEST_TIMEOUT, answer(stream, &sources)).await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a scraper's connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn answer<C: Fn() -> MetricsSnapshot>(mut stream: TcpStream, sources: &Sources<C>) -> io::Result<()> {
    let head = read_head(&mut stream).await?;
    let wanted = head.starts_with(b"GET /metrics ") || head.starts_with(b"GET /metrics?");
    let (status, body) = if wanted { ("200 OK", sources.text()) } else { ("404 Not Found", String::new()) };
    let length = body.len();
    let answer = format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
    );
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await
}

async fn read_head(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let (mut head, mut buffer) = (Vec::new(), [0; 1024]);
    while !head.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = stream.read(&mut buffer).await?;
        if count == 0 || head.len() + count > REQUEST_BYTES_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        head.extend_from_slice(&buffer[..count]);
    }
    Ok(head)
}

impl<C: Fn() -> MetricsSnapshot> Sources<C> {
    fn text(&self) -> String {
        let mut text = Text(String::new());
        text.chain(&(self.chain)());
        text.consensus(&self.consensus);
        if let Some(duties) = &self.duties {
            text.duties(duties);
        }
        text.0
    }
}

/// Lines in exposition format 0.0.4.
struct Text(String);

impl Text {
    fn put(&mut self, kind: &str, name: &str, help: &str, value: u64) {
        let written = writeln!(
            self.0,
            "# HELP cortensor_{name} {help}\n# TYPE cortensor_{name} {kind}\ncortensor_{name} {value}"
        );
        written.expect("writing to a string cannot fail");
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) {
        self.put("gauge", name, help, value);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.put("counter", name, help, value);
    }

    fn chain(&mut self, chain: &MetricsSnapshot) {
        self.gauge("chain_head", "Number of the last committed block.", chain.head_number);
        self.counter("chain_blocks_total", "Blocks committed.", chain.blocks);
        self.counter("chain_transactions_total", "Transactions committed.", chain.transactions);
        self.counter("chain_gas_total", "Gas used by committed transactions.", chain.gas_used);
        self.gauge("chain_pool_pending", "Transactions that could run now.", chain.pool_pending);
        self.gauge("chain_pool_queued", "Transactions behind a nonce gap.", chain.pool_queued);
        self.counter("chain_pool_refused_total", "Transactions that the pool refused.", chain.pool_refused);
        self.counter("chain_pool_invalid_total", "Transactions taken that proved impossible.", chain.pool_invalid);
        self.counter("chain_build_microseconds_total", "Time spent executing blocks.", chain.build_micros);
        self.counter("chain_commit_microseconds_total", "Time spent making blocks durable.", chain.commit_micros);
        for (phase, help, micros) in [
            ("recovery", "Processor time for decoding transactions and recovering senders.", chain.recovery_cpu_micros),
            ("execution", "Processor time for running transactions.", chain.execution_cpu_micros),
            ("roots", "Processor time for roots.", chain.root_cpu_micros),
            ("writing", "Processor time for writing blocks.", chain.commit_cpu_micros),
        ] {
            self.counter(&format!("chain_{phase}_processor_microseconds_total"), help, micros);
        }
        self.counter("chain_simulations_total", "Calls, estimates, traces and log queries.", chain.simulations);
    }

    fn consensus(&mut self, metrics: &Metrics) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        self.gauge("consensus_height", "The block being decided.", read(&metrics.height));
        self.gauge("consensus_round", "The attempt at it.", read(&metrics.round));
        let extra = read(&metrics.extra_rounds);
        self.counter("consensus_extra_rounds_total", "Rounds after the first of their height.", extra);
        let adopted = read(&metrics.blocks_adopted);
        self.counter("consensus_blocks_adopted_total", "Blocks taken over with their certificates.", adopted);
        let received = read(&metrics.messages_received);
        self.counter("consensus_messages_received_total", "Messages received.", received);
        self.counter(
            "consensus_messages_sent_total",
            "Messages sent, for each receiver.",
            read(&metrics.messages_sent),
        );
        self.counter("consensus_bytes_sent_total", "Bytes sent, for each receiver.", read(&metrics.bytes_sent));
        self.counter("consensus_log_syncs_total", "Times that the log was made durable.", read(&metrics.log_syncs));
        let spread = read(&metrics.transactions_spread);
        self.counter("consensus_transactions_spread_total", "Clients' transactions sent to peers.", spread);
        let unspread = read(&metrics.transactions_unspread);
        self.counter(
            "consensus_transactions_unspread_total",
            "Clients' transactions peers were not told of.",
            unspread,
        );
        let taken = read(&metrics.transactions_received);
        self.counter("consensus_transactions_received_total", "Transactions taken from peers.", taken);
        self.counter("consensus_evidence_total", "Double votes seen.", read(&metrics.evidence));
        self.counter("consensus_blames_total", "Times that a peer was at fault.", read(&metrics.blames));
    }

    fn duties(&mut self, duties: &DutyMetrics) {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        self.counter("validator_heartbeats_total", "Signs of life given to the contract.", read(&duties.heartbeats));
        self.counter("validator_sets_total", "Next sets of validators fixed.", read(&duties.sets));
        self.counter("validator_proofs_total", "Double votes proved to the chain.", read(&duties.proofs));
        self.counter("validator_failures_total", "Looks at duties that failed.", read(&duties.failures));
        self.gauge("validator_epochs_paid", "Epochs that the account can pay gas for.", read(&duties.epochs_paid));
        self.gauge("validator_jailed", "1 while the operator is jailed.", read(&duties.jailed));
        self.gauge(
            "clock_behind_seconds",
            "How far the newest block is behind this clock.",
            read(&duties.block_behind_s),
        );
        self.gauge(
            "clock_ahead_seconds",
            "How far the newest block is ahead of this clock.",
            read(&duties.block_ahead_s),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn get(path: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let consensus = Arc::<Metrics>::default();
        consensus.height.store(7, Relaxed);
        let sources = Sources { chain: MetricsSnapshot::default, consensus, duties: Some(Arc::default()) };
        let server = tokio::spawn(serve(listener, sources));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        server.abort();
        answer
    }

    #[tokio::test]
    async fn a_scraper_finds_every_counter_and_nothing_else() {
        let answer = get("/metrics").await;
        for expect in ["200 OK", "\ncortensor_consensus_height 7\n", "# TYPE cortensor_chain_blocks_total counter\n"] {
            assert!(answer.contains(expect), "{expect} is not in {answer}");
        }
        assert!(answer.contains("\ncortensor_validator_jailed 0\n"));
        assert!(get("/").await.starts_with("HTTP/1.1 404"));
    }
}

//! The gateway over a scripted service, for trying clients against it: prints its address, and serves until its
//! standard input ends.
#![allow(missing_docs, clippy::print_stdout, clippy::cast_possible_truncation, clippy::cast_precision_loss)]

#[path = "../tests/support/scripted.rs"]
#[allow(dead_code, unreachable_pub)]
mod scripted;

use cortensor_gateway::{GatewayConfig, serve};
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    std::thread::spawn(move || {
        // Whether the input ends or breaks, whoever started this is gone.
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        stop.cancel();
    });
    serve(listener, Arc::new(scripted::Scripted::default()), GatewayConfig::default(), shutdown).await?;
    Ok(())
}

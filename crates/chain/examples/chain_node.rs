//! Runs one development chain until it is killed: `chain_node [DIRECTORY|memory] [ADDRESS] [on-demand|MILLISECONDS]`.
//!
//! Prints its URL on the first line of standard output when it is ready. Tests start it as a process of its own to kill
//! it; by hand it is something for `cast` to talk to.

use std::{error::Error, io::Write as _};

use cortensor_chain::{Chain, Config, Sealing};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut config = Config::development(31_337);
    if let Some(directory) = arguments.next().filter(|directory| directory != "memory") {
        config = config.with_directory(directory);
    }
    if let Some(address) = arguments.next() {
        config = config.with_listen(address.parse()?);
    }
    if let Some(interval) = arguments.next().filter(|sealing| sealing != "on-demand") {
        config = config.with_sealing(Sealing::Both(interval.parse()?));
    }
    let chain = Chain::start(config).await?;
    let mut output = std::io::stdout();
    writeln!(output, "{}", chain.http_url())?;
    output.flush()?;
    tokio::select! {
        interrupted = tokio::signal::ctrl_c() => interrupted?,
        () = chain.stopped() => {}
    }
    Ok(chain.shutdown().await?)
}

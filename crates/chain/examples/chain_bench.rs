//! Measures transfers per second: `chain_bench [TRANSFERS]`.

use std::{error::Error, io::Write as _};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let transfers = std::env::args().nth(1).map_or(Ok(20_000), |count| count.parse())?;
    let result = cortensor_chain::bench::transfers_per_second(transfers).await?;
    writeln!(std::io::stdout(), "{:.0} transfers per second: {result:?}", result.per_second())?;
    Ok(())
}

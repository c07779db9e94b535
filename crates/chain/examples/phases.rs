//! Where one validator's processor time goes: `cargo run -p cortensor-chain --example phases -- [TRANSFERS]`.

use cortensor_chain::bench;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let transfers = std::env::args().nth(1).map_or(Ok(20_000), |text| text.parse())?;
    let result = bench::transfers_per_second(transfers).await?;
    println!("{:.0} transfers a second, {} blocks, {} bytes on disk", result.per_second(), result.blocks, result.file_bytes);
    println!("processor time per transfer: {:?}", result.phases());
    println!("executing and roots {:?}, writing {:?} of {:?}", result.build, result.commit, result.elapsed);
    Ok(())
}

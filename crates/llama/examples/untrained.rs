//! Writes a model of any size with random weights, for measuring: `untrained DONOR FOLDER WIDTH LAYERS [QUANTISATION…]`.
//!
//! The tokenizer comes from `DONOR`, such as models/tiny/cortensor-tiny-q8_0.gguf. Heads are 64 wide, three of them to one of
//! keys and values, and the feed-forward part is four times as wide as the hidden state. Quantisations are llama.cpp's names,
//! such as `Q4_K_M`; the F32 file stays beside them.

use cortensor_llama::bench::{Quantisation, Shape, untrained};
use std::path::PathBuf;

#[expect(clippy::print_stdout, reason = "the paths are what it is run for")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [donor, folder, width, layers, kinds @ ..] = arguments.as_slice() else {
        return Err("untrained DONOR FOLDER WIDTH LAYERS [QUANTISATION…]".into());
    };
    let (donor, folder) = (PathBuf::from(donor), PathBuf::from(folder));
    let (width, layers): (u32, u32) = (width.parse()?, layers.parse()?);
    let heads = width / 64;
    let key_value_heads = if heads.is_multiple_of(3) { heads / 3 } else { heads };
    let shape = Shape { width, layers, heads, key_value_heads, feed_forward: 4 * width, context: 4096 };
    for name in kinds {
        let known = Quantisation::ALL.into_iter().find(|kind| format!("{kind:?}").eq_ignore_ascii_case(name));
        let kind = known.ok_or_else(|| format!("{name} is not one of {:?}", Quantisation::ALL))?;
        println!("{}", untrained(&donor, &folder, &shape, kind)?.display());
    }
    Ok(())
}

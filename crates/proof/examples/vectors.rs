//! Writes the shared test vectors to `tests/vectors/`: any other implementation of the rule (the contract's,
//! a client's) must reproduce them bit by bit. Run from the crate's directory; the tests check that the files agree.

use cortensor_proof::vectors;
use std::{fs, io, path::Path};

fn main() -> io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("gumbel.csv"), vectors::gumbel())?;
    fs::write(folder.join("bits.csv"), vectors::bits())?;
    fs::write(folder.join("contradictions.csv"), vectors::contradictions())
}

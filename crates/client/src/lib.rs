//! A client that signs for its own session and trusts nobody: it signs each task before it is sent, checks the receipts of
//! what came back against what it received, and signs a voucher only for what holds up.
//!
//! ```no_run
//! # async fn example(key: alloy::signers::local::PrivateKeySigner, terms: cortensor_client::Terms)
//! # -> Result<(), Box<dyn std::error::Error>> {
//! use cortensor_client::{Client, Options};
//! let client = Client::connect(Options::new("http://127.0.0.1:8080", terms, key)).await?;
//! let mut answer = client.generate(client.question("cortensor-tiny", "What is a receipt?")).await?;
//! while let Some(piece) = answer.text().await? {
//!     print!("{piece}");
//! }
//! let payment = client.pay().await?;
//! println!("paid {}", payment.amount);
//! # Ok(()) }
//! ```
//!
//! Guarantees: a key signs no voucher that its [`Book`] cannot account for, delivery by delivery; what was signed is written
//! before it is sent, so that a kill of the process at any moment makes it sign neither twice nor less (after a loss of power
//! the file may lack the last moments: then what it does not know is not paid); every body that it reads is bounded.
//! Not here: opening and closing sessions on chain ([`cortensor_contracts`]).

mod answer;
mod book;
mod client;
mod http;

pub use answer::Answer;
pub use book::{Book, Objection, Problem};
pub use client::{Client, Model, Options, Payment, Terms, router_facts};
pub use http::{ClientError, Refusal};

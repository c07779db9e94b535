//! The process that holds a validator's key: it answers this user's other processes, one at a time, and keeps the book of what it
//! signed.

use std::{
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use thiserror::Error;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    time::timeout,
};

use super::{
    Signer,
    book::Book,
    wire::{Answer, MESSAGE_BYTES_MAX, Request, frame, parse},
};

/// A connection on which nothing is asked for so long makes room for another.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// After a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a signer does not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SignerError {
    /// The book of what was signed cannot be used.
    #[error("{} cannot be used: if it is lost, make sure that no copy of this validator has run for minutes", path.display())]
    Book {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It cannot listen.
    #[error("cannot listen at {}", path.display())]
    Listen {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// A signer that listens.
#[derive(Debug)]
pub struct SigningServer {
    signer: Signer,
    chain_id: u64,
    book: Book,
    listener: UnixListener,
    owner: u32,
}

impl SigningServer {
    /// Opens the book and listens at `socket`, which only this user may use.
    ///
    /// # Errors
    /// When the book is damaged or open elsewhere, or the socket cannot be made.
    pub fn open(signer: Signer, chain_id: u64, book: &Path, socket: &Path) -> Result<Self, SignerError> {
        let book_failed = |source| SignerError::Book { path: book.to_owned(), source };
        let opened = Book::open(book).map_err(book_failed)?;
        let failed = |source| SignerError::Listen { path: socket.to_owned(), source };
        // The book is ours alone, so a socket that is still there belongs to nobody any more.
        match std::fs::remove_file(socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(socket).map_err(failed)?;
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(0o600)).map_err(failed)?;
        let owner = std::fs::metadata(socket).map_err(failed)?.uid();
        Ok(Self { signer, chain_id, book: opened, listener, owner })
    }

    /// Signs for as long as it is polled.
    pub async fn run(mut self) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    if let Err(error) = self.serve(stream).await {
                        tracing::debug!(%error, "a validator's connection ended");
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a validator's connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(&mut self, mut stream: UnixStream) -> io::Result<()> {
        let who = stream.peer_cred()?.uid();
        if who != self.owner {
            tracing::warn!(user = who, "another user asked for signatures");
            return Ok(());
        }
        loop {
            let request = timeout(IDLE_MAX, read(&mut stream)).await??;
            let answer = self.answer(&request);
            if let Answer::Refused(why) = &answer {
                tracing::error!(?request, why, "refused to sign");
            }
            stream.write_all(&frame(&answer)).await?;
        }
    }

    fn answer(&mut self, request: &Request) -> Answer {
        if let Request::Hello { chain_id } = request {
            if *chain_id != self.chain_id {
                return Answer::Refused(format!("this signer is for chain {}, not for {chain_id}", self.chain_id));
            }
            return Answer::Address(self.signer.address().0);
        }
        let Some(digest) = request.digest(self.signer.domain()) else {
            return Answer::Refused("there is no such kind of vote".to_owned());
        };
        if let Some(place) = request.place()
            && let Err(refusal) = self.book.admit(place, digest)
        {
            return Answer::Refused(refusal.to_string());
        }
        Answer::Signature(self.signer.sign(digest))
    }
}

async fn read(stream: &mut UnixStream) -> io::Result<Request> {
    let length = stream.read_u32().await? as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(io::Error::other("a request longer than any is"));
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    parse(&body)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;
    use cortensor_protocol::consensus::Domain;
    use malachite_types::{NilOrVal, Round, VoteType};

    use super::*;
    use crate::{
        signing::{Keeper, RemoteSigner, SigningError},
        types::{BlockHash, Height, Vote},
    };

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_signs_as_a_key_in_memory_would_but_never_twice_differently() {
        let folder = tempfile::tempdir().unwrap();
        let (book, socket) = (folder.path().join("signed.json"), folder.path().join("signer.sock"));
        let local = Signer::new(&B256::repeat_byte(7), Domain::new(7)).unwrap();
        let server = SigningServer::open(local.clone(), 7, &book, &socket).unwrap();
        let running = tokio::spawn(server.run());
        assert!(matches!(RemoteSigner::connect(&socket, 8), Err(SigningError::Refused(_))), "another chain");
        let remote = Keeper::Remote(RemoteSigner::connect(&socket, 7).unwrap());
        let vote = |block: u8| Vote {
            kind: VoteType::Precommit,
            height: Height(3),
            round: Round::new(1),
            block: NilOrVal::Val(BlockHash(B256::repeat_byte(block))),
            validator: local.address(),
        };
        assert_eq!(remote.address(), local.address());
        assert_eq!(remote.vote(vote(1)).unwrap(), local.vote(vote(1)));
        assert_eq!(remote.beacon(3).unwrap(), local.beacon(3));
        assert!(matches!(remote.vote(vote(2)), Err(SigningError::Refused(_))));

        // Its book outlives it.
        running.abort();
        let _ = running.await;
        let server = SigningServer::open(local.clone(), 7, &book, &socket).unwrap();
        let running = tokio::spawn(server.run());
        assert_eq!(remote.vote(vote(1)).unwrap(), local.vote(vote(1)), "the connection is made anew");
        assert!(matches!(remote.vote(vote(2)), Err(SigningError::Refused(_))));
        running.abort();
    }
}

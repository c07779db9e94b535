//! The validator's side of a signer that is another process: a Unix socket, asked and waited for.
//!
//! The socket is believed because nobody but its owner can have put it where it is: it and its folder must belong to this user and be
//! closed to all others. The signer in turn is told by the kernel who asks.

use std::{
    io,
    os::unix::{fs::MetadataExt as _, net::UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use cortensor_protocol::consensus::Domain;

use super::{
    SigningError, is_signed_by,
    wire::{Answer, Request, exchange},
};
use crate::types::{Signature, ValidatorAddress};

/// Longest wait for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A signer that is being restarted is asked so often, so far apart.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(200);

/// A signer at the other end of a socket. Clones share the connection.
#[derive(Clone, Debug)]
pub struct RemoteSigner {
    socket: PathBuf,
    chain_id: u64,
    address: ValidatorAddress,
    stream: Arc<Mutex<Option<UnixStream>>>,
}

impl RemoteSigner {
    /// Asks the signer at this socket for whom it signs.
    ///
    /// # Errors
    /// When it is not there, is somebody else's, or signs for another chain.
    pub fn connect(socket: &Path, chain_id: u64) -> Result<Self, SigningError> {
        let stream = Arc::default();
        let unknown = ValidatorAddress(alloy::primitives::Address::ZERO);
        let mut signer = Self { socket: socket.to_owned(), chain_id, address: unknown, stream };
        match signer.ask(&Request::Hello { chain_id })? {
            Answer::Address(address) => signer.address = ValidatorAddress(address),
            Answer::Refused(why) => return Err(SigningError::Refused(why)),
            Answer::Signature(_) => return Err(SigningError::Answer(unknown)),
        }
        Ok(signer)
    }

    /// For whom it signs.
    #[must_use]
    pub fn address(&self) -> ValidatorAddress {
        self.address
    }

    pub(super) fn sign(&self, request: &Request) -> Result<Signature, SigningError> {
        let digest = request.digest(&Domain::new(self.chain_id));
        match self.ask(request)? {
            Answer::Signature(signature)
                if digest.is_some_and(|digest| is_signed_by(self.address, digest, &signature)) =>
            {
                Ok(signature)
            }
            Answer::Refused(why) => Err(SigningError::Refused(why)),
            Answer::Signature(_) | Answer::Address(_) => Err(SigningError::Answer(self.address)),
        }
    }

    /// Asking twice is safe: what was signed is signed again, nothing else.
    #[expect(
        clippy::disallowed_methods,
        reason = "without the signature the engine has nothing to do; a second at most"
    )]
    fn ask(&self, request: &Request) -> Result<Answer, SigningError> {
        let mut held = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
        let mut attempt = 0;
        loop {
            attempt += 1;
            match self.try_ask(&mut held, request) {
                Ok(answer) => return Ok(answer),
                Err(source) if attempt == ATTEMPTS => {
                    let socket = self.socket.display().to_string();
                    return Err(SigningError::Unreachable { socket, source });
                }
                Err(_) => {
                    *held = None;
                    std::thread::sleep(PAUSE);
                }
            }
        }
    }

    fn try_ask(&self, held: &mut Option<UnixStream>, request: &Request) -> io::Result<Answer> {
        let stream = match held {
            Some(stream) => stream,
            None => held.insert(self.open()?),
        };
        exchange(stream, request)
    }

    fn open(&self) -> io::Result<UnixStream> {
        require_own(&self.socket)?;
        let folder = self.socket.parent().filter(|folder| !folder.as_os_str().is_empty());
        require_own(folder.unwrap_or(Path::new(".")))?;
        let stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(stream)
    }
}

/// That something belongs to this user, and nobody else can write to it.
fn require_own(path: &Path) -> io::Result<()> {
    let (found, own) = (std::fs::metadata(path)?, std::fs::metadata("/proc/self")?);
    if found.uid() != own.uid() || found.mode() & 0o022 != 0 {
        let text = format!("{} belongs to somebody else, or others can write to it", path.display());
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

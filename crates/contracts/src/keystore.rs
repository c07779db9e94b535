//! Encrypted key files in the standard form (Web3 Secret Storage, version 3) that geth, Foundry and wallets read.
//!
//! Files are written at once or not at all, readable by their owner only, and never replace another file. Passwords
//! come from a file, the environment or a prompt, never from a command line, and are wiped from memory after use.
//! Deriving the key takes about a second and 256 MiB by design: call these functions from a blocking thread.
//! A key that an attacker reads out of this process's memory is lost; hardware wallets are not supported here.

use alloy::{
    primitives::{Address, keccak256},
    signers::local::{LocalSignerError, PrivateKeySigner},
};
use ctr::cipher::{KeyIvInit as _, StreamCipher as _};
use rand::Rng as _;
use serde::{Deserialize, Serialize};
use std::{
    fmt, fs,
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};
use zeroize::{Zeroize as _, Zeroizing};

/// Largest file that is read: key files have about 500 bytes, passwords fewer.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// Largest memory that a key file may ask for, in bytes. Four times the standard.
const MAX_SCRYPT_BYTES: u64 = 1 << 30;
/// Most rounds that a PBKDF2 key file may ask for.
const MAX_PBKDF2_ROUNDS: u64 = 10_000_000;

const SCRYPT_R: u32 = 8;
const SCRYPT_P: u32 = 1;

/// How expensive it is to try one password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// scrypt with N = 2^18, the standard of geth: about a second and 256 MiB.
    Standard,
    /// scrypt with N = 2^12: milliseconds. For development keys that guard nothing.
    DevelopmentOnly,
}

impl Strength {
    const fn log_n(self) -> u8 {
        match self {
            Self::Standard => 18,
            Self::DevelopmentOnly => 12,
        }
    }
}

/// A password, wiped from memory when dropped and never shown.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PasswordError {
    /// The file cannot be read.
    #[error("cannot read the password file {}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The variable is not set or no text.
    #[error("the environment variable {name} holds no password")]
    Environment {
        /// Its name.
        name: String,
        /// Why.
        source: std::env::VarError,
    },
    /// The prompt failed.
    #[error("cannot ask for the password")]
    Prompt(#[source] io::Error),
    /// Nothing was given.
    #[error("the password is empty")]
    Empty,
}

/// Where a password comes from. There is deliberately no way to pass one on a command line, which every user of a
/// machine can read.
pub enum PasswordSource<'a> {
    /// The first line of a file.
    File(PathBuf),
    /// An environment variable.
    Environment(String),
    /// A person, asked by the caller.
    Prompt(&'a dyn Fn() -> io::Result<String>),
}

impl PasswordSource<'_> {
    /// Gets the password.
    ///
    /// # Errors
    /// When the source fails or gives an empty one.
    pub fn get(&self) -> Result<Password, PasswordError> {
        let text = match self {
            Self::File(path) => {
                let failed = |source| PasswordError::File { path: path.clone(), source };
                warn_if_others_read(path);
                first_line(read_bounded(path).map_err(failed)?)
            }
            Self::Environment(name) => {
                std::env::var(name).map_err(|source| PasswordError::Environment { name: name.clone(), source })?
            }
            Self::Prompt(ask) => ask().map_err(PasswordError::Prompt)?,
        };
        Password::new(text)
    }
}

impl Password {
    /// A password that the caller has.
    ///
    /// # Errors
    /// When it is empty.
    pub fn new(text: impl Into<String>) -> Result<Self, PasswordError> {
        let text = Zeroizing::new(text.into());
        if text.is_empty() { Err(PasswordError::Empty) } else { Ok(Self(text)) }
    }
}

/// Why a key file could not be made or opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeystoreError {
    /// Reading or writing failed.
    #[error("cannot access the key file {}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Keys are never overwritten.
    #[error("the key file {} exists already", .0.display())]
    Exists(PathBuf),
    /// It holds something else.
    #[error("{} is not an encrypted key file", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// It is a key file, of a kind or cost that is not accepted.
    #[error("the key file {} has an unsupported {what}", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What is not accepted.
        what: &'static str,
    },
    /// The password does not open it.
    #[error("wrong password for the key file {}", .0.display())]
    WrongPassword(PathBuf),
    /// It opens, but to no valid key, or to another account's.
    #[error("the key file {} holds no valid key", .path.display())]
    BadKey {
        /// The file.
        path: PathBuf,
        /// Why.
        source: LocalSignerError,
    },
    /// It opens to another account than it names.
    #[error("the key file {} names account {named} but holds the key of {found}", .path.display())]
    OtherAccount {
        /// The file.
        path: PathBuf,
        /// Written in the file.
        named: Address,
        /// Of the key.
        found: Address,
    },
}

/// Makes a new random key and writes it to `path`.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn create(path: &Path, password: &Password, strength: Strength) -> Result<PrivateKeySigner, KeystoreError> {
    let signer = PrivateKeySigner::random();
    import(path, &signer, password, strength)?;
    Ok(signer)
}

/// Writes an existing key to `path`.
///
/// # Errors
/// When the file exists or cannot be written.
pub fn import(
    path: &Path,
    signer: &PrivateKeySigner,
    password: &Password,
    strength: Strength,
) -> Result<(), KeystoreError> {
    if path.exists() {
        return Err(KeystoreError::Exists(path.to_owned()));
    }
    let file = encrypt(signer, password, strength);
    let text = serde_json::to_string(&file).expect("strings and numbers always have a JSON form");
    match write_new(path, text.as_bytes()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(KeystoreError::Exists(path.to_owned())),
        Err(source) => Err(KeystoreError::Io { path: path.to_owned(), source }),
    }
}

/// Opens the key in `path`.
///
/// # Errors
/// When the file is none, asks for more work than is sensible, or the password is wrong.
pub fn open(path: &Path, password: &Password) -> Result<PrivateKeySigner, KeystoreError> {
    let file = parse(path)?;
    warn_if_others_read(path);
    let signer = PrivateKeySigner::decrypt_keystore(path, password.0.as_bytes()).map_err(|error| {
        // The format says no more than that the checksum does not match, which a wrong password causes.
        match &error {
            LocalSignerError::EthKeystoreError(inner) if inner.to_string() == "Mac Mismatch" => {
                KeystoreError::WrongPassword(path.to_owned())
            }
            _ => KeystoreError::BadKey { path: path.to_owned(), source: error },
        }
    })?;
    match file.account() {
        Some(named) if named != signer.address() => {
            Err(KeystoreError::OtherAccount { path: path.to_owned(), named, found: signer.address() })
        }
        _ => Ok(signer),
    }
}

/// The account that a key file names, without opening it; `None` where it names none.
///
/// # Errors
/// When the file is no key file.
pub fn account(path: &Path) -> Result<Option<Address>, KeystoreError> {
    Ok(parse(path)?.account())
}

#[derive(Serialize, Deserialize)]
struct KeyFile {
    version: u32,
    id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    crypto: Crypto,
}

#[derive(Serialize, Deserialize)]
struct Crypto {
    cipher: String,
    cipherparams: CipherParams,
    ciphertext: String,
    kdf: String,
    kdfparams: KdfParams,
    mac: String,
}

#[derive(Serialize, Deserialize)]
struct CipherParams {
    iv: String,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum KdfParams {
    Scrypt { dklen: u64, n: u64, r: u64, p: u64, salt: String },
    Pbkdf2 { dklen: u64, c: u64, prf: String, salt: String },
}

impl KeyFile {
    fn account(&self) -> Option<Address> {
        self.address.as_deref().and_then(|text| text.parse().ok())
    }

    /// What this file asks for that is not accepted. Everything that the decoder would trip over is refused here.
    fn unsupported(&self) -> Option<&'static str> {
        let has = |text: &str, bytes: usize| alloy::hex::decode(text).is_ok_and(|found| found.len() == bytes);
        let crypto = &self.crypto;
        if self.version != 3 {
            return Some("version");
        }
        if crypto.cipher != "aes-128-ctr" || !has(&crypto.cipherparams.iv, 16) || !has(&crypto.ciphertext, 32) {
            return Some("cipher");
        }
        if !has(&crypto.mac, 32) {
            return Some("checksum");
        }
        crypto.kdfparams.unsupported(&crypto.kdf)
    }
}

impl KdfParams {
    fn unsupported(&self, name: &str) -> Option<&'static str> {
        let (length, affordable) = match self {
            Self::Scrypt { dklen, n, r, p, .. } if name == "scrypt" => {
                let bytes = n.checked_mul(*r).and_then(|product| product.checked_mul(128));
                let work = bytes.and_then(|bytes| bytes.checked_mul(*p));
                let fits = work.is_some_and(|work| work <= MAX_SCRYPT_BYTES);
                (*dklen, n.is_power_of_two() && *n > 1 && *r > 0 && *p > 0 && fits)
            }
            Self::Pbkdf2 { dklen, c, prf, .. } if name == "pbkdf2" => {
                (*dklen, prf == "hmac-sha256" && (1..=MAX_PBKDF2_ROUNDS).contains(c))
            }
            _ => return Some("key derivation"),
        };
        match (length, affordable) {
            (32, true) => None,
            (32, false) => Some("cost of key derivation"),
            _ => Some("length of the derived key"),
        }
    }
}

fn parse(path: &Path) -> Result<KeyFile, KeystoreError> {
    let text = read_bounded(path).map_err(|source| KeystoreError::Io { path: path.to_owned(), source })?;
    let file: KeyFile =
        serde_json::from_str(&text).map_err(|source| KeystoreError::Malformed { path: path.to_owned(), source })?;
    match file.unsupported() {
        Some(what) => Err(KeystoreError::Unsupported { path: path.to_owned(), what }),
        None => Ok(file),
    }
}

fn encrypt(signer: &PrivateKeySigner, password: &Password, strength: Strength) -> KeyFile {
    let mut random = rand::rng();
    let (salt, iv): ([u8; 32], [u8; 16]) = (random.random(), random.random());
    let parameters = scrypt::Params::new(strength.log_n(), SCRYPT_R, SCRYPT_P).expect("standard parameters are valid");
    let mut derived = Zeroizing::new([0; 32]);
    scrypt::scrypt(password.0.as_bytes(), &salt, &parameters, derived.as_mut()).expect("32 bytes are a valid length");

    let mut key = signer.to_bytes();
    let mut ciphertext = key.0;
    key.0.zeroize();
    let (cipher_key, mac_key) = derived.split_at(16);
    let mut cipher = ctr::Ctr128BE::<aes::Aes128>::new_from_slices(cipher_key, &iv).expect("both have 16 bytes");
    cipher.apply_keystream(&mut ciphertext);
    let mac = keccak256([mac_key, &ciphertext].concat());

    let hex = |bytes: &[u8]| alloy::hex::encode(bytes);
    KeyFile {
        version: 3,
        id: uuid(random.random()),
        address: Some(hex(signer.address().as_slice())),
        crypto: Crypto {
            cipher: "aes-128-ctr".into(),
            cipherparams: CipherParams { iv: hex(&iv) },
            ciphertext: hex(&ciphertext),
            kdf: "scrypt".into(),
            kdfparams: KdfParams::Scrypt {
                dklen: 32,
                n: 1 << strength.log_n(),
                r: SCRYPT_R.into(),
                p: SCRYPT_P.into(),
                salt: hex(&salt),
            },
            mac: hex(mac.as_slice()),
        },
    }
}

/// RFC 9562, version 4.
fn uuid(mut bytes: [u8; 16]) -> String {
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = alloy::hex::encode(bytes);
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        text.zeroize();
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is too large"));
    }
    Ok(text)
}

fn first_line(mut text: String) -> String {
    let line = text.lines().next().unwrap_or_default().to_owned();
    text.zeroize();
    line
}

/// Writes a file that only its owner reads; fails when it exists.
fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, 0o600)?;
    // Unlike a rename, a link fails when the name is taken, even by somebody who was a moment faster.
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary)?;
    linked?;
    sync_folder(path)
}

/// Replaces a file at once or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let temporary = write_temporary(path, bytes, mode)?;
    if let Err(error) = fs::rename(&temporary, path) {
        fs::remove_file(&temporary)?;
        return Err(error);
    }
    sync_folder(path)
}

fn write_temporary(path: &Path, bytes: &[u8], mode: u32) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no file name"))?;
    let suffix: u64 = rand::rng().random();
    let temporary = path.with_file_name(format!(".{}.{suffix:016x}", name.to_string_lossy()));
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&temporary)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            fs::remove_file(&temporary)?;
            Err(error)
        }
    }
}

/// Makes a new name survive a power failure.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        fs::File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Only a warning, since secrets mounted into containers often have wider permissions than one would give them.
fn warn_if_others_read(path: &Path) {
    #[cfg(unix)]
    if let Ok(metadata) = fs::metadata(path)
        && std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), "other users of this machine can read this secret; chmod 600 it");
    }
    #[cfg(not(unix))]
    let _ = path;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The PBKDF2 example of the Web3 Secret Storage definition; the password is `testpassword`.
    const SPEC_PBKDF2: &str = r#"{"crypto":{"cipher":"aes-128-ctr","cipherparams":{"iv":"6087dab2f9fdbbfaddc31a909735c1e6"},"ciphertext":"5318b4d5bcd28de64ee5559e671353e16f075ecae9f99c7a79a38af5f869aa46","kdf":"pbkdf2","kdfparams":{"c":262144,"dklen":32,"prf":"hmac-sha256","salt":"ae3cd4e7013836a3df6bd7241b12db061dbe2c6785853cce422d148a624ce0bd"},"mac":"517ead924a9d0dc3124507e3393d175ce3ff7c1e96529c6c555ce9e51205e9b2"},"id":"3198bc9c-6672-5ab3-d995-4942343ae5b6","version":3}"#;

    fn password(text: &str) -> Password {
        Password::new(text).unwrap()
    }

    #[test]
    fn a_key_comes_back_with_the_right_password_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let signer = create(&path, &password("right"), Strength::DevelopmentOnly).unwrap();
        assert_eq!(open(&path, &password("right")).unwrap().to_bytes(), signer.to_bytes());
        assert_eq!(account(&path).unwrap(), Some(signer.address()));
        assert!(matches!(open(&path, &password("wrong")), Err(KeystoreError::WrongPassword(_))));
    }

    #[test]
    fn the_definitions_own_example_opens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, SPEC_PBKDF2).unwrap();
        let signer = open(&path, &password("testpassword")).unwrap();
        let expect = "0x7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
        assert_eq!(signer.to_bytes().to_string(), expect);
    }

    #[test]
    fn keys_are_never_overwritten_and_no_temporary_file_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        let signer = create(&path, &password("a"), Strength::DevelopmentOnly).unwrap();
        assert!(matches!(create(&path, &password("b"), Strength::DevelopmentOnly), Err(KeystoreError::Exists(_))));
        assert!(write_new(&path, b"x").is_err(), "even when the first look missed the file");
        assert_eq!(open(&path, &password("a")).unwrap().address(), signer.address());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_reads_a_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        create(&path, &password("a"), Strength::DevelopmentOnly).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn standard_strength_is_the_standards() {
        let file = encrypt(&PrivateKeySigner::random(), &password("a"), Strength::Standard);
        assert!(matches!(file.crypto.kdfparams, KdfParams::Scrypt { n: 262_144, r: 8, p: 1, dklen: 32, .. }));
        assert_eq!(file.unsupported(), None);
    }

    fn check(change: impl FnOnce(&mut serde_json::Value), expect: &str) {
        let mut value: serde_json::Value = serde_json::from_str(SPEC_PBKDF2).unwrap();
        change(&mut value);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.json");
        fs::write(&path, value.to_string()).unwrap();
        let error = open(&path, &password("testpassword")).unwrap_err().to_string();
        assert!(error.contains(expect), "{error}");
    }

    #[test]
    fn files_that_would_exhaust_or_confuse_are_refused() {
        check(|v| v["version"] = 4.into(), "version");
        check(|v| v["crypto"]["cipher"] = "rot13".into(), "cipher");
        check(|v| v["crypto"]["cipherparams"]["iv"] = "00".into(), "cipher");
        check(|v| v["crypto"]["mac"] = "00".into(), "checksum");
        check(|v| v["crypto"]["kdfparams"]["c"] = 4_000_000_000u64.into(), "cost");
        check(|v| v["crypto"]["kdfparams"]["dklen"] = 16.into(), "length");
        check(|v| v["crypto"]["kdf"] = "scrypt".into(), "key derivation");
        check(|v| v["address"] = "00000000000000000000000000000000000000ff".into(), "names account");
        let scrypt = |n: u64| serde_json::json!({"dklen": 32, "n": n, "r": 8, "p": 1, "salt": "00"});
        for n in [0, 1, 3, 1 << 21, u64::MAX] {
            check(
                |v| {
                    v["crypto"]["kdf"] = "scrypt".into();
                    v["crypto"]["kdfparams"] = scrypt(n);
                },
                "cost",
            );
        }
    }

    #[test]
    fn passwords_come_from_where_they_should() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        fs::write(&path, "secret\nrest\n").unwrap();
        assert_eq!(*PasswordSource::File(path.clone()).get().unwrap().0, "secret");
        fs::write(&path, "\n").unwrap();
        assert!(matches!(PasswordSource::File(path).get(), Err(PasswordError::Empty)));
        let ask = || Ok("asked".to_owned());
        assert_eq!(*PasswordSource::Prompt(&ask).get().unwrap().0, "asked");
        let unset = PasswordSource::Environment("CORTENSOR_TEST_UNSET_VARIABLE".into());
        assert!(matches!(unset.get(), Err(PasswordError::Environment { .. })));
        assert_eq!(format!("{:?}", password("secret")), "Password(…)");
    }

    #[test]
    fn identifiers_are_version_4() {
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}

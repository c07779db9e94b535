//! The configuration file of a router, miner or guard: one format, one parse, checked once.
//!
//! Secrets are never in it: it names keystore files, and passwords come from the environment or a file.

use cortensor_protocol::{Price, Wei};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    time::Duration,
};

/// Largest file that is read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Why a configuration is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not readable.
    #[error("cannot read {path}; `--init` writes one to begin with")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not a configuration.
    #[error("{path} is not a valid configuration")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// A value makes no sense.
    #[error("{path}: {field}: {problem}")]
    Value {
        /// The file.
        path: PathBuf,
        /// The setting.
        field: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// The chain and the contracts.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSection {
    /// JSON-RPC.
    pub rpc: String,
    /// File with the contracts' addresses, as `cortensor deploy` writes it.
    pub deployment: PathBuf,
}

/// Who this node is.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeSection {
    /// Keystore of the operator key.
    pub keystore: PathBuf,
    /// Where books and models are kept.
    pub data: PathBuf,
    /// UDP address of the encrypted transport.
    pub listen: SocketAddr,
    /// Stake in COR that `--register` puts up.
    pub stake_cor: u64,
    /// Relay servers, for nodes behind NAT; none is needed on a LAN or with a public address.
    #[serde(default)]
    pub relays: Vec<String>,
}

/// What a router adds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterSection {
    /// Address of the HTTP API.
    pub http: SocketAddr,
    /// Deposit in COR of the session that it opens for its API key.
    pub session_deposit_cor: u64,
    /// Highest price in COR per million tokens that this session accepts, in and out alike.
    pub session_max_price_cor: u64,
    /// Unsigned work that is tolerated from clients that sign for their own sessions.
    #[serde(default = "default_credit", deserialize_with = "cor")]
    pub client_credit_cor: Wei,
}

const fn default_credit() -> Wei {
    Wei(Wei::COR.0 / 10)
}

/// An amount of COR as a decimal text.
fn cor<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Wei, D::Error> {
    parse_cor(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
}

/// What a miner adds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerSection {
    /// Routers to serve: `<transport key>@<host>:<port>`.
    pub routers: Vec<String>,
    /// Guards that may audit this miner: `<transport key>@<host>:<port>`. To one that is drawn and not named here, this miner
    /// cannot show its records.
    #[serde(default)]
    pub guards: Vec<String>,
    /// What is served.
    pub model: Vec<ModelSection>,
    /// A voucher is redeemed when it is worth this many COR more than last time; rewards are claimed when they are worth as
    /// much.
    #[serde(default = "one")]
    pub redeem_cor: u64,
    /// How often that is looked at, in seconds.
    #[serde(default = "ten_minutes")]
    pub redeem_seconds: u64,
    /// Receipts are committed on chain when a thousand have gathered, or when the oldest has waited for so many seconds.
    #[serde(default = "five_minutes")]
    pub commit_seconds: u64,
}

/// What a guard adds.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardSection {
    /// Files of calibrated profiles.
    #[serde(default)]
    pub profiles: Vec<PathBuf>,
    /// Whether it also judges how useful answers are that passed their audit, with its first model.
    #[serde(default = "yes")]
    pub judge: bool,
    /// What it can go through.
    pub model: Vec<AuditedSection>,
    /// How it measures miners; a guard without this measures nobody.
    pub measure: Option<MeasureSection>,
}

/// How a guard measures the miners that it is drawn for: as a client of a router, with a session of its own.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasureSection {
    /// The router's API.
    pub router: String,
    /// The session.
    pub session: cortensor_protocol::SessionId,
    /// Keystore of the session's key; its password is asked for like the node's.
    pub keystore: PathBuf,
    /// Most tokens of one measurement.
    #[serde(default = "measure_tokens")]
    pub tokens_max: u32,
    /// Longest context that is tried.
    #[serde(default = "measure_context")]
    pub context_max: u32,
}

const fn measure_tokens() -> u32 {
    60_000
}

const fn measure_context() -> u32 {
    4_096
}

/// One model of a guard.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditedSection {
    /// Where it runs.
    pub backend: BackendSection,
}

const fn yes() -> bool {
    true
}

const fn one() -> u64 {
    1
}

const fn five_minutes() -> u64 {
    300
}

const fn ten_minutes() -> u64 {
    600
}

/// One model of a miner.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSection {
    /// Where it runs.
    pub backend: BackendSection,
    /// Asked price in COR per million input tokens, as a decimal.
    pub input_price_cor: String,
    /// Asked price in COR per million output tokens, as a decimal.
    pub output_price_cor: String,
}

/// Where a model runs.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase", tag = "kind")]
pub enum BackendSection {
    /// The model that comes with the program.
    Bundled,
    /// llama.cpp in this process.
    Llama {
        /// GGUF file.
        path: PathBuf,
        /// Sequences at once.
        slots: Option<NonZeroU32>,
        /// Threads.
        threads: Option<NonZeroU32>,
        /// Longest context of one sequence.
        context: Option<NonZeroU32>,
        /// Whether answers can be repeated bit for bit, which makes prompts slower.
        #[serde(default)]
        exact: bool,
    },
    /// Any server with OpenAI's API: vLLM, llama-server, Ollama, SGLang.
    Openai {
        /// Its URL, with `/v1`.
        url: String,
        /// The model's name there.
        model: String,
        /// Environment variable that holds its key, if it wants one.
        key_env: Option<String>,
        /// Sequences at once.
        slots: Option<NonZeroU32>,
    },
}

/// A router's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouterFile {
    /// The chain.
    pub chain: ChainSection,
    /// The node.
    pub node: NodeSection,
    /// The router.
    pub router: RouterSection,
}

/// A miner's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MinerFile {
    /// The chain.
    pub chain: ChainSection,
    /// The node.
    pub node: NodeSection,
    /// The miner.
    pub miner: MinerSection,
}

/// A guard's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GuardFile {
    /// The chain.
    pub chain: ChainSection,
    /// The node.
    pub node: NodeSection,
    /// The guard.
    pub guard: GuardSection,
}

/// Any of them, for checks that hold for all.
#[derive(Clone, Debug)]
pub enum AnyFile {
    /// A guard's.
    Guard(GuardFile),
    /// A router's.
    Router(RouterFile),
    /// A miner's.
    Miner(MinerFile),
}

impl AnyFile {
    /// The chain's part.
    #[must_use]
    pub const fn chain(&self) -> &ChainSection {
        match self {
            Self::Guard(file) => &file.chain,
            Self::Router(file) => &file.chain,
            Self::Miner(file) => &file.chain,
        }
    }

    /// The node's part.
    #[must_use]
    pub const fn node(&self) -> &NodeSection {
        match self {
            Self::Guard(file) => &file.node,
            Self::Router(file) => &file.node,
            Self::Miner(file) => &file.node,
        }
    }

    /// Reads a file of any kind: a `[router]`, `[guard]` or `[miner]` table says which.
    ///
    /// # Errors
    /// When it cannot be read or is no configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text(path)?)
    }

    /// The same for a text; `path` is what errors call it.
    ///
    /// # Errors
    /// When it is no configuration.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let table = toml::from_str::<toml::Table>(text).unwrap_or_default();
        if table.contains_key("router") {
            RouterFile::parse(path, text).map(Self::Router)
        } else if table.contains_key("guard") {
            GuardFile::parse(path, text).map(Self::Guard)
        } else {
            MinerFile::parse(path, text).map(Self::Miner)
        }
    }
}

fn text(path: &Path) -> Result<String, ConfigError> {
    let read = || {
        let size = std::fs::metadata(path)?.len();
        if size > FILE_BYTES_MAX {
            return Err(std::io::Error::other(format!("it has {size} bytes")));
        }
        std::fs::read_to_string(path)
    };
    read().map_err(|source| ConfigError::Read { path: path.to_owned(), source })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &str) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|source| ConfigError::Parse { path: path.to_owned(), source: Box::new(source) })
}

/// A configuration of another kind than these.
pub(crate) fn read_toml<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    parse(path, &text(path)?)
}

impl RouterFile {
    /// Reads a router's configuration.
    ///
    /// # Errors
    /// When it cannot be read or is no such configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        parse(path, text)
    }
}

impl GuardFile {
    /// Reads a guard's configuration.
    ///
    /// # Errors
    /// When it cannot be read or is no such configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: Self = parse(path, text)?;
        let wrong = |field, problem: &str| ConfigError::Value { path: path.to_owned(), field, problem: problem.into() };
        if file.guard.model.is_empty() {
            return Err(wrong("guard.model", "names no model to audit"));
        }
        if file.guard.model.iter().any(|model| matches!(model.backend, BackendSection::Openai { .. })) {
            return Err(wrong("guard.model", "a guard needs the logits, which an `openai` backend does not show"));
        }
        Ok(file)
    }
}

impl MinerFile {
    /// Reads a miner's configuration.
    ///
    /// # Errors
    /// When it cannot be read or is no such configuration.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        Self::parse(path, &text(path)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: Self = parse(path, text)?;
        let wrong = |field, problem: String| ConfigError::Value { path: path.to_owned(), field, problem };
        if file.miner.routers.is_empty() {
            return Err(wrong("miner.routers", "names no router to serve".into()));
        }
        if file.miner.model.is_empty() {
            return Err(wrong("miner.model", "serves no model".into()));
        }
        for model in &file.miner.model {
            model.check_price().map_err(|(field, problem)| wrong(field, problem))?;
        }
        Ok(file)
    }

    /// When receipts are committed on chain.
    #[must_use]
    pub fn batch_policy(&self) -> crate::miner::batches::BatchPolicy {
        let age = Duration::from_secs(self.miner.commit_seconds);
        crate::miner::batches::BatchPolicy { age, ..Default::default() }
    }

    /// How often and above what vouchers are redeemed.
    #[must_use]
    pub fn redeem_policy(&self) -> crate::miner::redeem::RedeemPolicy {
        crate::miner::redeem::RedeemPolicy {
            interval: Duration::from_secs(self.miner.redeem_seconds.max(1)),
            least: Wei(u128::from(self.miner.redeem_cor) * Wei::COR.0),
        }
    }
}

impl ModelSection {
    /// The asked price.
    ///
    /// # Errors
    /// When an amount is not a decimal number of COR with at most 18 places.
    pub fn price(&self) -> Result<Price, String> {
        self.check_price().map_err(|(field, problem)| format!("{field}: {problem}"))
    }

    /// The price, or the setting at fault and what is wrong with it.
    fn check_price(&self) -> Result<Price, (&'static str, String)> {
        let input = parse_cor(&self.input_price_cor).map_err(|problem| ("miner.model.input_price_cor", problem))?;
        let output = parse_cor(&self.output_price_cor).map_err(|problem| ("miner.model.output_price_cor", problem))?;
        Ok(Price { input, output })
    }
}

/// Parses a decimal amount of COR, such as `0.25`, exactly.
///
/// # Errors
/// When it is not such a number, or has more than 18 places or is too large.
pub fn parse_cor(text: &str) -> Result<Wei, String> {
    let wrong = || format!("{text:?} is not an amount of COR such as \"0.25\"");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || fraction.len() > 18 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let whole: u128 = whole.parse().map_err(|_| wrong())?;
    let fraction: u128 = format!("{fraction:0<18}").parse().map_err(|_| wrong())?;
    whole.checked_mul(Wei::COR.0).and_then(|wei| wei.checked_add(fraction)).map(Wei).ok_or_else(wrong)
}

/// A router's configuration to begin with.
pub const ROUTER_TEMPLATE: &str = include_str!("router.toml");

/// A guard's configuration to begin with.
pub const GUARD_TEMPLATE: &str = include_str!("guard.toml");

/// A miner's configuration to begin with.
pub const MINER_TEMPLATE: &str = include_str!("miner.toml");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_templates_are_valid() {
        let path = Path::new("template");
        RouterFile::parse(path, ROUTER_TEMPLATE).unwrap();
        MinerFile::parse(path, MINER_TEMPLATE).unwrap();
        GuardFile::parse(path, GUARD_TEMPLATE).unwrap();
        assert!(matches!(AnyFile::parse(path, GUARD_TEMPLATE).unwrap(), AnyFile::Guard(_)));
        let upstream =
            GUARD_TEMPLATE.replace("kind = \"bundled\"", "kind = \"openai\", url = \"http://h/v1\", model = \"m\"");
        assert!(GuardFile::parse(path, &upstream).unwrap_err().to_string().contains("logits"));
    }

    #[test]
    fn a_misspelt_setting_is_refused() {
        let text = ROUTER_TEMPLATE.replace("stake_cor", "steak_cor");
        assert!(matches!(RouterFile::parse(Path::new("x"), &text), Err(ConfigError::Parse { .. })));
    }

    #[test]
    fn a_price_that_is_no_amount_is_named() {
        for field in ["input_price_cor", "output_price_cor"] {
            let lines = MINER_TEMPLATE.lines();
            let text: String = lines
                .map(
                    |line| if line.starts_with(field) { format!("{field} = \"cheap\"\n") } else { format!("{line}\n") },
                )
                .collect();
            let error = MinerFile::parse(Path::new("x"), &text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("x: miner.model.{field}: \"cheap\" is not an amount")), "{error}");
        }
    }

    #[test]
    fn a_credit_may_be_left_out_and_must_be_an_amount() {
        let read = |text: &str| RouterFile::parse(Path::new("x"), text);
        assert_eq!(read(ROUTER_TEMPLATE).unwrap().router.client_credit_cor, default_credit());
        let without: String = ROUTER_TEMPLATE
            .lines()
            .filter(|line| !line.starts_with("client_credit"))
            .map(|line| format!("{line}\n"))
            .collect();
        assert_eq!(read(&without).unwrap().router.client_credit_cor, default_credit());
        let wrong = ROUTER_TEMPLATE.replace("client_credit_cor = \"0.1\"", "client_credit_cor = \"much\"");
        let error = read(&wrong).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("client_credit_cor") && source.contains("not an amount"), "{source}");
    }

    #[test]
    fn amounts_are_exact() {
        assert_eq!(parse_cor("0.25"), Ok(Wei(250_000_000_000_000_000)));
        assert_eq!(parse_cor("3"), Ok(Wei(3 * Wei::COR.0)));
        assert_eq!(parse_cor("0.000000000000000001"), Ok(Wei(1)));
        for wrong in ["", ".5", "-1", "1e3", "0.0000000000000000001", "1.2.3", "99999999999999999999999999"] {
            assert!(parse_cor(wrong).is_err(), "{wrong}");
        }
    }
}

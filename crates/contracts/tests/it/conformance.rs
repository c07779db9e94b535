//! Bindings, committed artifacts and golden messages say the same.
//!
//! `CORTENSOR_UPDATE_ABI=1 cargo test -p cortensor-contracts --test it interfaces` writes `abi/` anew after the
//! contracts changed.

use crate::world::sign;
use alloy::{
    json_abi::{JsonAbi, StateMutability},
    primitives::{Address, B256, Bytes, U256, hex},
    signers::local::PrivateKeySigner,
    sol_types::{SolCall, SolError, SolEvent, SolStruct as _, SolValue as _, eip712_domain},
};
use cortensor_contracts::{
    artifact::{self, Artifact},
    bindings::{
        audits::Audits, batches::Batches, court::Court, guards::Guards, models::ModelRegistry, registry::NodeRegistry,
        rewards::Rewards, scores::Scores, sessions::Sessions, token::CortensorToken, usefulness::Usefulness,
    },
};
use cortensor_protocol::{
    Countersignature, Domain, Operator, SessionClose, SessionId, Signature65, Voucher, Wei, binding,
};
use serde_json::Value;
use std::path::PathBuf;

fn folder(relative: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(relative)
}

fn json(path: &PathBuf) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap()
}

/// Solidity's own value types stand for what they wrap.
fn without_value_types(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(without_value_types),
        Value::Object(fields) => {
            fields.values_mut().for_each(without_value_types);
            let internal = fields.get("internalType").and_then(Value::as_str);
            if internal.is_some_and(|text| !text.contains(' ')) {
                let plain = fields["type"].clone();
                fields.insert("internalType".into(), plain);
            }
        }
        _ => {}
    }
}

#[test]
fn interfaces_are_those_of_the_artifacts() {
    for artifact in artifact::all() {
        let name = &artifact.contract_name;
        let mut expect = json(&folder(&format!("../../contracts/artifacts/{name}.json")))["abi"].take();
        without_value_types(&mut expect);
        let path = folder(&format!("abi/{name}.json"));
        if std::env::var_os("CORTENSOR_UPDATE_ABI").is_some() {
            std::fs::write(&path, serde_json::to_string_pretty(&expect).unwrap() + "\n").unwrap();
        }
        assert!(
            json(&path) == expect,
            "abi/{name}.json is out of date: CORTENSOR_UPDATE_ABI=1 cargo test -p cortensor-contracts --test it interfaces"
        );
    }
}

/// The function's selector, its parameters and result, and that the deployed code dispatches on it.
fn check_call<C: SolCall>(artifact: &Artifact, result: &str, writes: bool) {
    let name = C::SIGNATURE.split('(').next().unwrap();
    let functions = artifact.abi.function(name).unwrap_or_else(|| panic!("{name} is gone"));
    let function = functions.iter().find(|function| function.signature() == C::SIGNATURE);
    let function = function.unwrap_or_else(|| panic!("{} has other parameters", C::SIGNATURE));
    assert_eq!(function.selector(), C::SELECTOR, "{name}");
    let outputs: Vec<_> = function.outputs.iter().map(|output| output.selector_type().into_owned()).collect();
    assert_eq!(outputs.join(","), result, "{name}");
    let is_view = matches!(function.state_mutability, StateMutability::View | StateMutability::Pure);
    assert_eq!(is_view, !writes, "{name}");
    let push = [&[0x63], C::SELECTOR.as_slice()].concat();
    let trimmed = [&[0x62], &C::SELECTOR[1..]].concat();
    let code = &artifact.deployed_bytecode;
    let dispatches = code.windows(5).any(|window| window == push)
        || (C::SELECTOR[0] == 0 && code.windows(4).any(|window| window == trimmed));
    assert!(dispatches, "the code of {} does not know {name}", artifact.contract_name);
}

fn check_event<E: SolEvent>(artifact: &Artifact, indexed: usize) {
    let event = artifact.abi.events().find(|event| event.signature() == E::SIGNATURE);
    let event = event.unwrap_or_else(|| panic!("{} is gone", E::SIGNATURE));
    assert_eq!(event.selector(), E::SIGNATURE_HASH, "{}", E::SIGNATURE);
    assert_eq!(event.inputs.iter().filter(|input| input.indexed).count(), indexed, "{}", E::SIGNATURE);
    let push = [&[0x7f], E::SIGNATURE_HASH.as_slice()].concat();
    assert!(artifact.deployed_bytecode.windows(33).any(|window| window == push), "{} is never emitted", E::SIGNATURE);
}

fn check_error<E: SolError>(abi: &JsonAbi) {
    let error = abi.errors().find(|error| error.signature() == E::SIGNATURE);
    assert_eq!(error.unwrap_or_else(|| panic!("{} is gone", E::SIGNATURE)).selector(), E::SELECTOR);
}

#[test]
fn the_token_has_what_the_client_calls() {
    let artifact = &artifact::TOKEN;
    check_call::<CortensorToken::balanceOfCall>(artifact, "uint256", false);
    check_call::<CortensorToken::totalSupplyCall>(artifact, "uint256", false);
    check_call::<CortensorToken::allowanceCall>(artifact, "uint256", false);
    check_call::<CortensorToken::noncesCall>(artifact, "uint256", false);
    check_call::<CortensorToken::transferCall>(artifact, "bool", true);
    check_call::<CortensorToken::approveCall>(artifact, "bool", true);
    check_call::<CortensorToken::permitCall>(artifact, "", true);
    check_call::<CortensorToken::mintCall>(artifact, "", true);
}

#[test]
fn the_node_registry_has_what_the_client_calls() {
    const NODE: &str = "(address,uint32,uint64,address,uint64,address,uint128,uint128,bytes32,bytes,bytes)";
    let artifact = &artifact::NODE_REGISTRY;
    check_call::<NodeRegistry::nodeCall>(artifact, NODE, false);
    check_call::<NodeRegistry::nodesCall>(artifact, &format!("{NODE}[]"), false);
    check_call::<NodeRegistry::nodeCountCall>(artifact, "uint256", false);
    check_call::<NodeRegistry::isActiveCall>(artifact, "bool", false);
    check_call::<NodeRegistry::minimumStakeCall>(artifact, "uint128", false);
    check_call::<NodeRegistry::unbondingDelayCall>(artifact, "uint64", false);
    check_call::<NodeRegistry::slashableCall>(artifact, "uint128", false);
    check_call::<NodeRegistry::isSlasherCall>(artifact, "bool", false);
    check_call::<NodeRegistry::tokenCall>(artifact, "address", false);
    check_call::<NodeRegistry::noncesCall>(artifact, "uint256", false);
    check_call::<NodeRegistry::registerCall>(artifact, "", true);
    check_call::<NodeRegistry::deregisterCall>(artifact, "", true);
    check_call::<NodeRegistry::setRolesCall>(artifact, "", true);
    check_call::<NodeRegistry::setPayoutCall>(artifact, "", true);
    check_call::<NodeRegistry::setTransportKeyCall>(artifact, "", true);
    check_call::<NodeRegistry::setClaimsCall>(artifact, "", true);
    check_call::<NodeRegistry::addStakeCall>(artifact, "", true);
    check_call::<NodeRegistry::requestUnstakeCall>(artifact, "", true);
    check_call::<NodeRegistry::cancelUnstakeCall>(artifact, "", true);
    check_call::<NodeRegistry::withdrawUnstakedCall>(artifact, "uint128", true);
    check_call::<NodeRegistry::setSlasherCall>(artifact, "", true);
    check_event::<NodeRegistry::MinimumStakeChanged>(artifact, 1);
    check_error::<NodeRegistry::NodeUnknown>(&artifact.abi);
}

/// The cache forgets a node by the first indexed field of whatever the registry says about it.
#[test]
fn every_event_about_a_node_or_session_names_it_first() {
    let about = |abi: &JsonAbi, subject: &str| {
        let fields = abi.events().map(|event| (event.name.clone(), event.inputs.first().cloned()));
        let named = fields.filter(|(_, first)| first.as_ref().is_some_and(|input| input.name == subject));
        named.map(|(name, first)| (name, first.unwrap().indexed)).collect::<Vec<_>>()
    };
    let nodes = about(&artifact::NODE_REGISTRY.abi, "operator");
    assert_eq!(nodes.len(), 11);
    assert!(nodes.iter().all(|(_, indexed)| *indexed), "{nodes:?}");
    let sessions = about(&artifact::SESSIONS.abi, "session");
    assert_eq!(sessions.len(), 9);
    assert!(sessions.iter().all(|(_, indexed)| *indexed), "{sessions:?}");
}

#[test]
fn the_model_registry_has_what_the_client_calls() {
    const MODEL: &str = "(bytes32,address,uint16,bool,uint64,(uint128,uint128,uint128,uint128),string,string)";
    let artifact = &artifact::MODEL_REGISTRY;
    check_call::<ModelRegistry::modelCall>(artifact, MODEL, false);
    check_call::<ModelRegistry::modelsCall>(artifact, &format!("{MODEL}[]"), false);
    check_call::<ModelRegistry::modelCountCall>(artifact, "uint256", false);
    check_call::<ModelRegistry::registerCall>(artifact, "", true);
    check_call::<ModelRegistry::setTermsCall>(artifact, "", true);
    check_call::<ModelRegistry::setRetiredCall>(artifact, "", true);
    check_error::<ModelRegistry::ModelUnknown>(&artifact.abi);
}

#[test]
fn sessions_have_what_the_client_calls() {
    let session = "(address,uint8,uint128,uint128,address,uint128,uint128,address,bytes32,uint128,uint128,uint8,uint64,\
                   uint64,(uint32,uint16,uint16,uint16))";
    let artifact = &artifact::SESSIONS;
    check_call::<Sessions::openCall>(artifact, "bytes32", true);
    check_call::<Sessions::openWithPermitCall>(artifact, "bytes32", true);
    check_call::<Sessions::topUpCall>(artifact, "", true);
    check_call::<Sessions::replaceKeyCall>(artifact, "", true);
    check_call::<Sessions::redeemCall>(artifact, "uint128", true);
    check_call::<Sessions::redeemBatchCall>(artifact, "uint256", true);
    check_call::<Sessions::withdrawCall>(artifact, "uint256", true);
    check_call::<Sessions::requestCloseCall>(artifact, "", true);
    check_call::<Sessions::closeWithRouterCall>(artifact, "", true);
    check_call::<Sessions::finalizeCall>(artifact, "", true);
    check_call::<Sessions::proveEquivocationCall>(artifact, "", true);
    check_call::<Sessions::setParametersCall>(artifact, "", true);
    check_call::<Sessions::transferOwnershipCall>(artifact, "", true);
    check_call::<Sessions::sessionCall>(artifact, session, false);
    check_call::<Sessions::redeemedCall>(artifact, "(uint128,uint64,uint64)", false);
    check_call::<Sessions::balanceOfCall>(artifact, "uint256", false);
    check_call::<Sessions::nextSessionIdCall>(artifact, "bytes32", false);
    check_call::<Sessions::retiredKeyCall>(artifact, "(uint128,uint128,uint64)", false);
    check_call::<Sessions::equivocationProvenCall>(artifact, "bool", false);
    check_call::<Sessions::parametersCall>(artifact, "(uint16,uint16,uint16,uint16,uint16,uint32)", false);
    check_call::<Sessions::treasuryCall>(artifact, "address", false);
    check_call::<Sessions::tokenCall>(artifact, "address", false);
    check_call::<Sessions::nodeRegistryCall>(artifact, "address", false);
    check_call::<Sessions::modelRegistryCall>(artifact, "address", false);
    check_call::<Sessions::voucherHashCall>(artifact, "bytes32", false);
    check_call::<Sessions::voucherDigestCall>(artifact, "bytes32", false);
    check_call::<Sessions::countersignatureDigestCall>(artifact, "bytes32", false);
    check_call::<Sessions::closeDigestCall>(artifact, "bytes32", false);
    check_event::<Sessions::SessionOpened>(artifact, 3);
    check_event::<Sessions::SessionToppedUp>(artifact, 2);
    check_event::<Sessions::SessionKeyReplaced>(artifact, 3);
    check_event::<Sessions::SessionCloseRequested>(artifact, 1);
    check_event::<Sessions::SessionSettled>(artifact, 1);
    check_event::<Sessions::SessionFinalized>(artifact, 1);
    check_event::<Sessions::VoucherRedeemed>(artifact, 3);
    check_event::<Sessions::ShortfallTaken>(artifact, 3);
    check_event::<Sessions::EquivocationProven>(artifact, 3);
    check_error::<Sessions::SessionUnknown>(&artifact.abi);
}

#[test]
fn guards_and_scores_have_what_the_clients_call() {
    let artifact = &artifact::GUARDS;
    check_call::<Guards::enrollCall>(artifact, "", true);
    check_call::<Guards::retireCall>(artifact, "", true);
    check_call::<Guards::declareClassCall>(artifact, "", true);
    check_call::<Guards::recordBeaconCall>(artifact, "", true);
    check_call::<Guards::currentEpochCall>(artifact, "uint32", false);
    check_call::<Guards::beaconOfCall>(artifact, "bytes32", false);
    check_call::<Guards::classAtCall>(artifact, "bytes32", false);
    check_call::<Guards::enrolmentCountCall>(artifact, "uint256", false);
    check_call::<Guards::enrolmentAtCall>(artifact, "(address,uint32,bool)", false);
    check_call::<Guards::isEnrolledCall>(artifact, "bool", false);
    check_call::<Guards::epochLengthCall>(artifact, "uint32", false);
    check_call::<Guards::genesisCall>(artifact, "uint64", false);
    let artifact = &artifact::SCORES;
    check_call::<Scores::registerProfileCall>(artifact, "", true);
    check_call::<Scores::setParametersCall>(artifact, "", true);
    check_call::<Scores::setWritersCall>(artifact, "", true);
    check_call::<Scores::scoreCall>(artifact, "(int40,int40,uint32,uint32,uint32,uint64,uint8)", false);
    check_call::<Scores::rateOfCall>(artifact, "uint32", false);
    check_call::<Scores::failuresOfCall>(artifact, "(uint32,uint40,uint40)", false);
    check_call::<Scores::forgetCall>(artifact, "", true);
    check_call::<Scores::reputationOfCall>(artifact, "uint32", false);
    check_call::<Scores::scoreOfCall>(artifact, "uint256", false);
    check_call::<Scores::profileCall>(artifact, "(uint32,bytes32,int32[16][3][2])", false);
    let parameters = "(int32,int32,int32,int32,uint32,uint32,uint32,uint32,uint32,int32,uint8,uint32)";
    check_call::<Scores::parametersCall>(artifact, parameters, false);
    check_call::<Scores::auditorCall>(artifact, "address", false);
    check_call::<Scores::courtCall>(artifact, "address", false);
}

#[test]
fn the_court_has_what_the_client_calls() {
    let artifact = &artifact::COURT;
    check_call::<Court::proveContradictionCall>(artifact, "", true);
    check_call::<Court::announceCall>(artifact, "", true);
    check_call::<Court::fundCall>(artifact, "", true);
    check_call::<Court::withdrawCall>(artifact, "uint256", true);
    check_call::<Court::plantCall>(artifact, "", true);
    check_call::<Court::setTrapSetterCall>(artifact, "", true);
    check_call::<Court::setAuditorCall>(artifact, "", true);
    check_call::<Court::setParametersCall>(artifact, "", true);
    check_call::<Court::tokenCall>(artifact, "address", false);
    check_call::<Court::itemOfCall>(artifact, "bytes32", false);
    check_call::<Court::headerDigestCall>(artifact, "bytes32", false);
    check_call::<Court::guaranteeCall>(artifact, "(uint32,uint32,uint32,uint128,uint256)", false);
    check_call::<Court::isProvenCall>(artifact, "bool", false);
    check_call::<Court::bondOfCall>(artifact, "address,uint96", false);
    check_call::<Court::poolCall>(artifact, "uint256", false);
    check_call::<Court::balanceOfCall>(artifact, "uint256", false);
    let parameters = "(uint16,uint32,uint32,uint16,uint16,uint16,uint16,uint16,uint16,uint16,uint96,uint96,uint96,\
                      uint96,uint96,uint96)";
    check_call::<Court::parametersCall>(artifact, parameters, false);
    check_event::<Court::ContradictionProven>(artifact, 3);
    check_error::<Court::NoContradiction>(&artifact.abi);
}

#[test]
fn audits_have_what_the_client_calls() {
    let artifact = &artifact::AUDITS;
    let audit = "(address,uint8,uint8,uint32,uint32,uint8,uint8,uint8,uint8,uint40,uint40,uint40,bool,bool,uint8,uint16,\
                 uint32,bool,bool,(int32,int32),(int32,int32))";
    check_call::<Audits::reportMissingCall>(artifact, "", true);
    check_call::<Audits::openAuditCall>(artifact, "", true);
    check_call::<Audits::challengeCall>(artifact, "", true);
    check_call::<Audits::drawCall>(artifact, "", true);
    check_call::<Audits::commitFindingCall>(artifact, "", true);
    check_call::<Audits::revealFindingCall>(artifact, "", true);
    check_call::<Audits::settleCall>(artifact, "", true);
    check_call::<Audits::appealCall>(artifact, "", true);
    check_call::<Audits::springTrapCall>(artifact, "", true);
    check_call::<Audits::setParametersCall>(artifact, "", true);
    check_call::<Audits::batchesCall>(artifact, "address", false);
    check_call::<Audits::assignedFirstCall>(artifact, "address", false);
    check_call::<Audits::assignedCall>(artifact, "address[]", false);
    check_call::<Audits::auditCall>(artifact, audit, false);
    check_call::<Audits::seatsCall>(artifact, "(address,uint8,uint8,uint16,int32,int32)[]", false);
    let parameters = "(uint32,uint32,uint32,uint32,uint32,uint8,int32,int32,int32,int32)";
    check_call::<Audits::parametersCall>(artifact, parameters, false);
    check_event::<Audits::ReceiptMissing>(artifact, 2);
    check_event::<Audits::AuditOpened>(artifact, 2);
    check_event::<Audits::CommitteeDrawn>(artifact, 2);
    check_event::<Audits::FindingCommitted>(artifact, 2);
    check_event::<Audits::FindingRevealed>(artifact, 2);
    check_event::<Audits::RoundDecided>(artifact, 2);
    check_event::<Audits::Escalated>(artifact, 2);
    check_event::<Audits::AuditSettled>(artifact, 2);
    check_event::<Audits::Challenged>(artifact, 3);
    check_event::<Audits::Appealed>(artifact, 2);
    check_event::<Audits::TrapSprung>(artifact, 2);
    check_error::<Audits::NotDue>(&artifact.abi);
}

#[test]
fn batches_have_what_the_client_calls() {
    let artifact = &artifact::BATCHES;
    check_call::<Batches::commitCall>(artifact, "", true);
    check_call::<Batches::refreshRateCall>(artifact, "uint32", true);
    check_call::<Batches::setAuditorCall>(artifact, "", true);
    check_call::<Batches::batchOfCall>(artifact, "(uint32,uint32,uint32,uint40)", false);
    check_call::<Batches::isDrawnCall>(artifact, "bool", false);
    check_call::<Batches::isTakenCall>(artifact, "bool", false);
    check_call::<Batches::auditorCall>(artifact, "address", false);
    check_event::<Batches::BatchCommitted>(artifact, 1);
    check_error::<Batches::AlreadyTaken>(&artifact.abi);
}

#[test]
fn rewards_have_what_the_client_calls() {
    let artifact = &artifact::REWARDS;
    check_call::<Rewards::countCall>(artifact, "uint128", true);
    check_call::<Rewards::claimCall>(artifact, "uint256", true);
    check_call::<Rewards::collectCall>(artifact, "uint256", true);
    check_call::<Rewards::fundCall>(artifact, "", true);
    check_call::<Rewards::setQualityCall>(artifact, "", true);
    check_call::<Rewards::setParametersCall>(artifact, "", true);
    check_call::<Rewards::claimableCall>(artifact, "uint256,uint256", false);
    check_call::<Rewards::countableCall>(artifact, "uint128", false);
    check_call::<Rewards::poolCall>(artifact, "uint256", false);
    check_call::<Rewards::feesCall>(artifact, "uint256", false);
    check_call::<Rewards::parametersCall>(artifact, "(uint128,uint32,uint32,uint16)", false);
    check_event::<Rewards::Claimed>(artifact, 2);
    check_error::<Rewards::NotAudited>(&artifact.abi);
}

#[test]
fn usefulness_has_what_the_client_calls() {
    let artifact = &artifact::USEFULNESS;
    check_call::<Usefulness::declareModelCall>(artifact, "", true);
    check_call::<Usefulness::openCall>(artifact, "", true);
    check_call::<Usefulness::commitScoreCall>(artifact, "", true);
    check_call::<Usefulness::revealScoreCall>(artifact, "", true);
    check_call::<Usefulness::settleCall>(artifact, "", true);
    check_call::<Usefulness::plantCall>(artifact, "", true);
    check_call::<Usefulness::showKnownCall>(artifact, "", true);
    check_call::<Usefulness::fundCall>(artifact, "", true);
    check_call::<Usefulness::withdrawCall>(artifact, "uint256", true);
    check_call::<Usefulness::setFamilyCall>(artifact, "", true);
    check_call::<Usefulness::setParametersCall>(artifact, "", true);
    check_call::<Usefulness::drawnCall>(artifact, "address[]", false);
    let judgement = "(address,uint8,uint8,uint8,uint8,uint40,uint40,uint40,uint32)";
    check_call::<Usefulness::judgementCall>(artifact, judgement, false);
    check_call::<Usefulness::seatsCall>(artifact, "(address,uint8,uint32)[]", false);
    check_call::<Usefulness::recordOfCall>(artifact, "(uint32,uint32)", false);
    check_call::<Usefulness::qualityPpmCall>(artifact, "uint32", false);
    check_call::<Usefulness::trustOfCall>(artifact, "uint32", false);
    check_call::<Usefulness::modelOfCall>(artifact, "bytes32", false);
    check_call::<Usefulness::familyOfCall>(artifact, "uint32", false);
    check_call::<Usefulness::poolCall>(artifact, "uint256", false);
    check_call::<Usefulness::balanceOfCall>(artifact, "uint256", false);
    let parameters = "(uint32,uint32,uint32,uint32,uint32,uint8,uint8,uint32,uint32,uint32,uint32,uint96)";
    check_call::<Usefulness::parametersCall>(artifact, parameters, false);
    check_event::<Usefulness::ScoreRevealed>(artifact, 2);
    check_event::<Usefulness::JudgementSettled>(artifact, 2);
    check_error::<Usefulness::NotUseful>(&artifact.abi);
}

struct Vectors(Value);

impl Vectors {
    fn load() -> Self {
        Self(json(&folder("../../contracts/artifacts/vectors.json")))
    }

    fn get<T: std::str::FromStr>(&self, path: &str) -> T
    where
        T::Err: std::fmt::Debug,
    {
        let value = self.0.pointer(path).unwrap_or_else(|| panic!("no {path}"));
        value.as_str().map_or_else(|| value.to_string(), str::to_owned).parse().unwrap()
    }

    fn check(&self, message: &str, key: &str, digest: B256) {
        assert_eq!(digest, self.get::<B256>(&format!("/{message}/digest")), "{message}");
        let signer: PrivateKeySigner = self.get(key);
        let Signature65(bytes) = sign(&signer, digest);
        assert_eq!(Bytes::from(bytes), self.get::<Bytes>(&format!("/{message}/signature")), "{message}");
        assert_eq!(Signature65(bytes).recover(digest), Ok(signer.address()), "{message}");
    }
}

#[test]
fn golden_messages_hash_and_sign_alike() {
    let golden = Vectors::load();
    let domain = Domain { chain_id: golden.get("/chainId"), sessions: golden.get("/sessions") };
    let voucher = Voucher {
        session: SessionId(golden.get("/voucher/message/session")),
        miner: Operator(golden.get("/voucher/message/miner")),
        cumulative_amount: Wei(golden.get("/voucher/message/cumulativeAmount")),
        cumulative_input_tokens: golden.get("/voucher/message/cumulativeInputTokens"),
        cumulative_output_tokens: golden.get("/voucher/message/cumulativeOutputTokens"),
        receipts_root: golden.get("/voucher/message/receiptsRoot"),
    };
    assert_eq!(domain.eip712().separator(), golden.get::<B256>("/voucher/domainSeparator"));
    assert_eq!(voucher.struct_hash(), golden.get::<B256>("/voucher/structHash"));
    golden.check("voucher", "/sessionKey", voucher.signing_hash(&domain));
    let promise = Countersignature {
        voucher_hash: golden.get("/countersignature/message/voucherHash"),
        session: voucher.session,
        sequence: golden.get("/countersignature/message/sequence"),
        session_total: Wei(golden.get("/countersignature/message/sessionTotal")),
    };
    golden.check("countersignature", "/routerKey", promise.signing_hash(&domain));
    let close = SessionClose {
        session: voucher.session,
        final_sequence: golden.get("/close/message/finalSequence"),
        final_total: Wei(golden.get("/close/message/finalTotal")),
    };
    golden.check("close", "/routerKey", close.signing_hash(&domain));
}

#[test]
fn golden_bindings_and_session_ids_are_ours() {
    let golden = Vectors::load();
    let (chain_id, registry) = (golden.get::<u64>("/chainId"), golden.get::<Address>("/nodeRegistry"));
    let message = binding::transport_message(chain_id, registry, Operator(golden.get("/operator")));
    assert_eq!(hex::encode_prefixed(message), golden.get::<String>("/transportBinding"));
    let owner = (U256::from(chain_id), golden.get::<Address>("/sessions"), golden.get::<Address>("/owner"));
    let id = alloy::primitives::keccak256((owner.0, owner.1, owner.2, golden.get::<U256>("/ownerNonce")).abi_encode());
    assert_eq!(id, golden.get::<B256>("/sessionId"));

    alloy::sol! {
        struct Consent { address operator; address owner; uint256 nonce; uint256 deadline; }
    }
    let consent = Consent {
        operator: golden.get("/consent/message/operator"),
        owner: golden.get("/consent/message/owner"),
        nonce: golden.get("/consent/message/nonce"),
        deadline: golden.get("/consent/message/deadline"),
    };
    let domain = eip712_domain! {
        name: "Cortensor NodeRegistry",
        version: "1",
        chain_id: chain_id,
        verifying_contract: registry,
    };
    golden.check("consent", "/operatorKey", consent.eip712_signing_hash(&domain));
}

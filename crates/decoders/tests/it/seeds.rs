//! The seeds that are not text, made from values of the types that the decoders give.

use crate::chain_seeds;
use alloy::{
    consensus::{SignableTransaction as _, TxEip1559, TxEnvelope, TxLegacy},
    eips::eip2718::Encodable2718 as _,
    primitives::{Address, B256, TxKind, U256},
    signers::{SignerSync as _, local::PrivateKeySigner},
};
use cortensor_node::{
    identity::sign,
    journal,
    ledger::SessionTerms,
    miner::earnings::{Account, Contradiction},
};
use cortensor_proof::{
    evidence::Charge,
    profile::{CheatSummary, Histogram, ONE, Pair, Parts, Profile, Scales},
};
use cortensor_protocol::{
    ChatMessage, Countersignature, Domain, FinishReason, GenerationRequest, ModelId, ModelManifest, ModelOffer,
    Operator, Price, Prompt, Receipt, ReceiptFile, ResponseFormat, Role, SamplingParams, SessionId, SignedReceipt,
    SignedVoucher, TaskHeader, TaskId, Tier, TokenEvent, Tool, ToolChoice, ToolFormat, Usage, Voucher, Wei,
    generation::TopToken,
    manifest::{Load, Speed},
    merkle,
    receipt::prompt_hash,
    sampling::LogProb,
    task::SignedHeader,
    trace::{self, TraceToken},
    wire::{
        self, Challenge, CountTask, EmbedTask, FailureCode, GenerateTask, Hello, MinerControl, RefusalCode,
        RouterControl, TaskControl, TaskFailure, TaskOpen, TaskReply, Welcome,
    },
};
use serde::Serialize;

pub(crate) type Seed = (&'static str, &'static str, Vec<u8>);

const DOMAIN: Domain = Domain { chain_id: 31_337, sessions: Address::repeat_byte(7) };

fn key(number: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(number)).unwrap()
}

/// Every seed with its target and name.
pub(crate) fn all() -> Vec<Seed> {
    [wire_seeds(), signed_seeds(), stored_seeds(), engine_seeds(), transactions(), profiles(), chain_seeds::all()]
        .concat()
}

fn framed<T: Serialize>(kind: u8, messages: &[T]) -> Vec<u8> {
    let frames = messages.iter().flat_map(|message| wire::encode(message).unwrap());
    [kind].into_iter().chain(frames).collect()
}

fn bare<T: Serialize>(kind: u8, message: &T) -> Vec<u8> {
    [&[kind], &wire::encode(message).unwrap()[4..]].concat()
}

fn header() -> SignedHeader {
    let session = SessionId(B256::repeat_byte(1));
    let header = TaskHeader {
        task: TaskId::derive(session, 1),
        session,
        model: ModelId(B256::repeat_byte(2)),
        request_hash: request().hash(),
        sampling: request().sampling.hash(),
        seed: B256::repeat_byte(4),
        max_tokens: 100,
        min_tier: Tier::D,
        client_nonce: 1,
        deadline: 10,
    };
    SignedHeader { signature: sign(&key(1), header.signing_hash(&DOMAIN)), header }
}

fn request() -> GenerationRequest {
    let tool = Tool { name: "f".into(), description: "d".into(), parameters: r#"{"type":"object"}"#.into() };
    GenerationRequest {
        model: "m".into(),
        prompt: Prompt::Chat {
            messages: vec![ChatMessage::text(Role::User, "hello")],
            tools: vec![tool],
            tool_choice: ToolChoice::Auto,
        },
        sampling: SamplingParams::default(),
        seed: Some(7),
        max_tokens: 100,
        stop: vec!["\n".into()],
        response_format: ResponseFormat::JsonSchema("{}".into()),
        logprobs: Some(2),
    }
}

fn tokens() -> Vec<TraceToken> {
    (0..5).map(|id| TraceToken { id, logprob: LogProb(-7) }).collect()
}

fn receipt() -> SignedReceipt {
    let header = header().header;
    let receipt = Receipt {
        header_hash: header.signing_hash(&DOMAIN),
        task: header.task,
        session: header.session,
        model: header.model,
        miner: Operator(key(2).address()),
        prompt_hash: prompt_hash(&[1, 2, 3]),
        trace_root: trace::root(
            B256::repeat_byte(6),
            &tokens(),
            &trace::evidence_leaves(B256::repeat_byte(6), tokens().len(), &[]),
        )
        .expect("one leaf a window"),
        first_token: 0,
        input_tokens: 3,
        output_tokens: 5,
        finish: FinishReason::EndOfSequence,
        tier: Tier::A,
        price: price(),
        amount: Wei(18),
        finished_at: 9,
    };
    SignedReceipt { signature: sign(&key(2), receipt.signing_hash(&DOMAIN)), receipt }
}

fn price() -> Price {
    Price { input: Wei(1_000_000), output: Wei(3_000_000) }
}

fn voucher(sequence: u64) -> SignedVoucher {
    let mut voucher = Voucher::empty(SessionId(B256::repeat_byte(1)), Operator(key(2).address()));
    voucher.cumulative_amount = Wei(18);
    let countersignature = Countersignature {
        voucher_hash: voucher.struct_hash(),
        session: voucher.session,
        sequence,
        session_total: Wei(18),
    };
    SignedVoucher {
        signature: sign(&key(1), voucher.signing_hash(&DOMAIN)),
        router_signature: sign(&key(3), countersignature.signing_hash(&DOMAIN)),
        voucher,
        countersignature,
    }
}

fn offer() -> ModelOffer {
    let manifest = ModelManifest {
        name: "m".into(),
        weights_blake3: B256::repeat_byte(1),
        weights_sha256: B256::repeat_byte(2),
        tokenizer: B256::repeat_byte(3),
        chat_template: B256::repeat_byte(4),
        quantisation: "Q8_0".into(),
        context_length: 2048,
        kv_cache: "f16".into(),
        vocabulary: 4096,
        embedding_length: 64,
        tool_format: ToolFormat::Hermes,
        licence: "Apache-2.0".into(),
    };
    ModelOffer {
        manifest,
        price: price(),
        tier: Tier::A,
        build: "llama.cpp b1 (cpu)".into(),
        context: 2048,
        slots: 4,
        speed: Speed::default(),
    }
}

fn hello() -> Hello {
    let signature = sign(&key(2), B256::ZERO);
    Hello { version: 1, miner: Operator(key(2).address()), signature, offers: vec![offer()], agent: "a".into() }
}

fn wire_seeds() -> Vec<Seed> {
    let signature = sign(&key(3), B256::ZERO);
    let router = Operator(key(3).address());
    let challenge = Challenge { version: 1, chain_id: 31_337, router, nonce: [5; 32], signature };
    let welcomes = [
        Welcome::Accepted { vouchers: vec![voucher(1)], heartbeat_ms: 1000 },
        Welcome::Refused { code: RefusalCode::NotActive, message: "stake more".into() },
    ];
    let miner = [
        MinerControl::Heartbeat(vec![(Load::default(), Speed::default())]),
        MinerControl::Offers(vec![offer()]),
        MinerControl::Draining,
    ];
    let generate = GenerateTask {
        header: header(),
        request: request(),
        price: price(),
        resume_tokens: 1,
        resume: vec![3],
        resume_text: "x".into(),
    };
    let embed = EmbedTask { header: header(), inputs: vec!["a".into()], price: price() };
    let count = CountTask { model: ModelId(B256::repeat_byte(2)), request: request() };
    let opens =
        [TaskOpen::Generate(Box::new(generate)), TaskOpen::Embed(Box::new(embed)), TaskOpen::Count(Box::new(count))];
    vec![
        ("wire", "challenge", framed(0, &[challenge])),
        ("wire", "hello", framed(1, &[hello()])),
        ("wire", "welcome", framed(2, &welcomes)),
        ("wire", "miner-control", framed(3, &miner)),
        ("wire", "router-control", framed(4, &[RouterControl::Voucher(Box::new(voucher(1))), RouterControl::Draining])),
        ("wire", "task-open", framed(5, &opens)),
        ("wire", "task-reply", framed(6, &replies())),
        ("wire", "task-control", framed(7, &[TaskControl::Cancel, TaskControl::Pay(Box::new(voucher(1)))])),
    ]
}

fn replies() -> Vec<TaskReply> {
    let top = vec![TopToken { id: Some(3), bytes: b"x".into(), logprob: LogProb(-7) }];
    let token = TokenEvent { id: Some(3), text: "x".into(), logprob: Some(LogProb(-7)), top };
    let receipt = Box::new(receipt());
    vec![
        TaskReply::Started { input_tokens: 3, cached_input_tokens: 0, prompt_hash: B256::ZERO },
        TaskReply::Tokens(vec![token]),
        TaskReply::Finished {
            finish: FinishReason::Length,
            stop: Some(1),
            tail: "t".into(),
            usage: Usage::default(),
            receipt: receipt.clone(),
            salt: B256::repeat_byte(6),
            closing: Some(TraceToken { id: 2, logprob: LogProb(-3) }),
            evidence: vec![B256::repeat_byte(7)],
        },
        TaskReply::Embedded { vectors: vec![vec![0.5, -1.0]], input_tokens: 1, receipt },
        TaskReply::Failed(TaskFailure { code: FailureCode::Busy, message: "full".into() }),
        TaskReply::Paid,
        TaskReply::Counted(9),
    ]
}

fn signed_seeds() -> Vec<Seed> {
    let file = ReceiptFile {
        version: 2,
        domain: DOMAIN,
        registry: Address::repeat_byte(9),
        session_key: key(1).address(),
        router: Operator(key(3).address()),
        header: header(),
        receipt: receipt(),
        salt: B256::repeat_byte(6),
        evidence: trace::evidence_leaves(B256::repeat_byte(6), tokens().len(), &[]),
        tokens: tokens(),
        opened: Vec::new(),
        request: Some(request()),
        text: "x".into(),
        voucher: Some(voucher(1)),
        guarantee: None,
    };
    let statements = (voucher(1).countersignature, voucher(2).countersignature);
    vec![
        ("signed", "header", bare(0, &header())),
        ("signed", "voucher", bare(1, &voucher(1))),
        ("signed", "receipt", bare(2, &(receipt(), header().header))),
        ("signed", "countersignatures", bare(3, &statements)),
        ("signed", "hello", bare(4, &hello())),
        ("receipt", "paid", serde_json::to_vec_pretty(&file).unwrap()),
        ("receipt", "unpaid", serde_json::to_vec(&ReceiptFile { voucher: None, ..file }).unwrap()),
    ]
}

fn stored_seeds() -> Vec<Seed> {
    let session = SessionId(B256::repeat_byte(1));
    let account = Account { earned: Wei(20), voucher: Some(voucher(1)), redeemed: Wei(3) };
    let statement = |sequence| (voucher(sequence).countersignature, voucher(sequence).router_signature);
    let terms = SessionTerms {
        id: session,
        owner: key(1).address(),
        session_key: key(1).address(),
        router: Operator(key(3).address()),
        spendable: Wei(1000),
        max_price: price(),
        model: Some(ModelId(B256::repeat_byte(2))),
        min_tier: Tier::D,
        expiry: u64::MAX,
        accepting: true,
    };
    let contradiction = Contradiction { first: statement(1), second: statement(2) };
    let record = |kind: u8, bytes: Vec<u8>| [vec![kind], bytes].concat();
    vec![
        ("store", "account", record(0, journal::encode(&(session, account)))),
        ("store", "contradiction", record(1, journal::encode(&contradiction))),
        ("store", "terms", record(2, journal::encode(&terms))),
        ("merkle", "proof", proof()),
    ]
}

/// A true proof of leaf 2 of 5.
fn proof() -> Vec<u8> {
    let leaves: Vec<B256> = (0..5_u8).map(|number| merkle::leaf(&[number])).collect();
    let path = merkle::proof(&leaves, 2).unwrap();
    let hashes = [merkle::root(&leaves), leaves[2]].into_iter().chain(path);
    [5, 2].into_iter().chain(hashes.flat_map(|hash| hash.0)).collect()
}

fn engine_seeds() -> Vec<Seed> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.extend_from_slice(&u64::try_from(text.len()).unwrap().to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    };
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend_from_slice(&[0; 8]);
    file.extend_from_slice(&3_u64.to_le_bytes());
    text(&mut file, "general.name");
    file.extend_from_slice(&8_u32.to_le_bytes());
    text(&mut file, "x");
    text(&mut file, "llama.context_length");
    file.extend_from_slice(&4_u32.to_le_bytes());
    file.extend_from_slice(&2048_u32.to_le_bytes());
    text(&mut file, "tokenizer.ggml.tokens");
    file.extend_from_slice(&9_u32.to_le_bytes());
    file.extend_from_slice(&8_u32.to_le_bytes());
    file.extend_from_slice(&2_u64.to_le_bytes());
    text(&mut file, "a");
    text(&mut file, "b");
    vec![("gguf", "small", file)]
}

fn transactions() -> Vec<Seed> {
    let signer = key(4);
    let to = TxKind::Call(Address::repeat_byte(3));
    let new = TxEip1559 {
        chain_id: 31_337,
        gas_limit: 21_000,
        max_fee_per_gas: 10,
        to,
        value: U256::from(5),
        ..Default::default()
    };
    let old = TxLegacy {
        chain_id: Some(31_337),
        gas_limit: 50_000,
        gas_price: 9,
        to: TxKind::Create,
        input: vec![0x60, 0].into(),
        ..Default::default()
    };
    let new_signature = signer.sign_hash_sync(&new.signature_hash()).unwrap();
    let old_signature = signer.sign_hash_sync(&old.signature_hash()).unwrap();
    let new = TxEnvelope::from(new.into_signed(new_signature)).encoded_2718();
    let old = TxEnvelope::from(old.into_signed(old_signature)).encoded_2718();
    vec![("transaction", "eip1559", new), ("transaction", "legacy", old)]
}

fn profiles() -> Vec<Seed> {
    let histogram = Histogram {
        edges: std::array::from_fn(|edge| 1 << edge),
        honest: std::array::from_fn(|bin| if bin == 0 { 970 } else { 2 }),
        bound: std::array::from_fn(|bin| if bin == 0 { ONE } else { ONE / 100 }),
    };
    let scales = Scales { weights_ppm: [400_000, 300_000, 300_000], cheat: [[ONE / 16; 16]; 3] };
    let cheat = |name: &str, weak| CheatSummary {
        name: name.into(),
        charge: Charge::Sampling,
        weak,
        mismatch_ppm: 200_000,
        separation_milli: 12_345,
        drift: -7,
    };
    let word = B256::repeat_byte;
    let parts = Parts {
        pair: Pair { model: ModelId(word(1)), miner_class: word(2), guard_class: word(3) },
        version: 4,
        temper_ppm: [500_000; 2],
        hard_margin: 1 << 14,
        answers: 10,
        tokens: 1_000,
        histograms: [histogram; 3],
        charges: [scales; 2],
        cheats: vec![cheat("KV cache", true), cheat("Q4_0", false)],
    };
    vec![("profile", "two-cheats", Profile::new(parts).unwrap().encode())]
}

//! Each rule of the book, and that an honest router's proposals are always signed.

use super::*;
use alloy::{
    primitives::B256,
    signers::{SignerSync, local::PrivateKeySigner},
};
use cortensor_protocol::{
    FinishReason, ModelId, Receipt, SignedReceipt, Tier,
    client::Charge,
    sampling::LogProb,
    task::SignedHeader,
    trace::{self, TraceToken},
};
use proptest::prelude::*;

const PRICE: Price = Price { input: Wei(1_000_000), output: Wei(3_000_000) };

struct World {
    book: Book,
    honest: Book,
    rules: Rules,
    client: PrivateKeySigner,
    miner: PrivateKeySigner,
    nonce: u64,
}

fn key(byte: u8) -> PrivateKeySigner {
    PrivateKeySigner::from_bytes(&B256::repeat_byte(byte)).unwrap()
}

fn signature(key: &PrivateKeySigner, hash: B256) -> cortensor_protocol::Signature65 {
    key.sign_hash_sync(&hash).unwrap().into()
}

fn world() -> World {
    let session = SessionId(B256::repeat_byte(1));
    let client = key(1);
    let rules = Rules {
        domain: Domain { chain_id: 1, sessions: Address::repeat_byte(9) },
        session_key: client.address(),
        max_price: PRICE,
    };
    World { book: Book::new(session), honest: Book::new(session), rules, client, miner: key(2), nonce: 0 }
}

/// One delivery as a router states it, with the file that proves it.
#[derive(Clone)]
struct Delivery {
    proposal: Proposal,
    file: Option<ReceiptFile>,
}

impl World {
    /// Asks for a task and receives `tokens` of it.
    fn ask(&mut self, tokens: u32) -> TaskHeader {
        self.nonce += 1;
        let session = self.book.session;
        let header = TaskHeader {
            task: TaskId::derive(session, self.nonce),
            session,
            model: ModelId::default(),
            request_hash: B256::ZERO,
            sampling: B256::ZERO,
            seed: B256::ZERO,
            max_tokens: 100,
            min_tier: Tier::D,
            client_nonce: self.nonce,
            deadline: u64::MAX,
        };
        self.book.ask(&header, 50);
        self.book.receive(header.task, (0..tokens).map(Some));
        header
    }

    fn file(&self, header: &TaskHeader, first: u32, input: u32, output: u32, price: Price) -> ReceiptFile {
        let domain = self.rules.domain;
        let tokens: Vec<_> = (first..first + output).map(|id| TraceToken { id, logprob: LogProb(0) }).collect();
        let evidence = trace::evidence_leaves(B256::ZERO, tokens.len(), &[]);
        let receipt = Receipt {
            header_hash: header.signing_hash(&domain),
            task: header.task,
            session: header.session,
            model: header.model,
            miner: Operator(self.miner.address()),
            prompt_hash: B256::ZERO,
            trace_root: trace::root(B256::ZERO, &tokens, &evidence).unwrap(),
            first_token: first,
            input_tokens: input,
            output_tokens: output,
            finish: FinishReason::EndOfSequence,
            tier: Tier::D,
            price,
            amount: price.cost(input.into(), output.into()).unwrap(),
            finished_at: 0,
        };
        ReceiptFile {
            version: 2,
            domain,
            registry: Address::ZERO,
            session_key: self.client.address(),
            router: Operator::default(),
            header: SignedHeader {
                signature: signature(&self.client, header.signing_hash(&domain)),
                header: header.clone(),
            },
            receipt: SignedReceipt { signature: signature(&self.miner, receipt.signing_hash(&domain)), receipt },
            salt: B256::ZERO,
            tokens,
            evidence,
            opened: Vec::new(),
            request: None,
            text: String::new(),
            voucher: None,
            guarantee: None,
        }
    }

    /// What an honest router proposes for a finished delivery.
    fn finished(&mut self, header: &TaskHeader, first: u32, input: u32, output: u32) -> Delivery {
        let file = self.file(header, first, input, output, PRICE);
        let receipt = &file.receipt.receipt;
        let leaf = receipt.leaf(&self.rules.domain);
        let (task, amount) = (header.task, receipt.amount);
        let charge =
            Charge { task, input_tokens: input.into(), output_tokens: output.into(), amount, receipt: Some(leaf) };
        Delivery { proposal: self.proposal(charge), file: Some(file) }
    }

    /// What an honest router proposes for a miner that broke off.
    fn partial(&mut self, task: TaskId, output: u32) -> Delivery {
        let amount = PRICE.cost(0, output.into()).unwrap();
        let charge = Charge { task, input_tokens: 0, output_tokens: output.into(), amount, receipt: None };
        Delivery { proposal: self.proposal(charge), file: None }
    }

    fn proposal(&mut self, charge: Charge) -> Proposal {
        let miner = Operator(self.miner.address());
        let session = self.honest.session;
        let account = self.honest.accounts.entry(miner).or_insert_with(|| Account::new(session, miner));
        account.add(charge.amount, charge.input_tokens, charge.output_tokens, charge.receipt);
        Proposal { voucher: account.voucher.clone(), charge }
    }

    fn judge(&mut self, delivery: &Delivery) -> Verdict {
        self.book.judge(&delivery.proposal, delivery.file.as_ref(), &self.rules)
    }

    /// Judges a changed delivery by a copy of the book.
    fn objection(&self, delivery: &Delivery, change: impl FnOnce(&mut Delivery)) -> Option<Problem> {
        let mut delivery = delivery.clone();
        change(&mut delivery);
        match self.book.clone().judge(&delivery.proposal, delivery.file.as_ref(), &self.rules) {
            Verdict::Object(problem) => Some(problem),
            _ => None,
        }
    }
}

#[test]
fn an_honest_delivery_is_signed_once() {
    let mut world = world();
    let header = world.ask(10);
    let delivery = world.finished(&header, 0, 20, 10);
    assert_eq!(world.judge(&delivery), Verdict::Wait, "it still runs");
    world.book.end(header.task, true);
    assert_eq!(world.judge(&delivery), Verdict::Sign);
    assert_eq!(world.book.signed(), delivery.proposal.charge.amount);
    assert_eq!(world.judge(&delivery), Verdict::Object(Problem::NotAsked), "a task that is paid is forgotten");
    let again = world.finished(&header, 0, 20, 10);
    assert_eq!(world.judge(&again), Verdict::Object(Problem::NotAsked));
}

#[test]
fn a_handed_over_task_is_paid_in_parts_and_no_more() {
    let mut world = world();
    let header = world.ask(10);
    world.book.end(header.task, true);
    let (first, second) = (world.partial(header.task, 4), world.finished(&header, 4, 20, 6));
    assert_eq!(world.judge(&first), Verdict::Sign);
    let mut greedy = world.book.clone();
    let more = world.partial(header.task, 1);
    assert_eq!(world.judge(&second), Verdict::Sign);
    assert!(world.book.tasks.is_empty());
    // The same without the second miner's share being known: one token too many.
    greedy.tasks.get_mut(&header.task).unwrap().charged_output = 10;
    let verdict = greedy.judge(&more.proposal, None, &world.rules);
    assert_eq!(verdict, Verdict::Object(Problem::TooManyTokens { charged: 11, received: 10 }));
}

#[test]
fn what_is_not_as_it_was_is_refused_by_name() {
    let mut world = world();
    let header = world.ask(10);
    world.book.end(header.task, true);
    let good = world.finished(&header, 0, 20, 10);
    assert_eq!(world.objection(&good, |_| ()), None);
    let refused = |change: fn(&mut Delivery)| world.objection(&good, change).expect("must be refused");
    assert_eq!(refused(|d| d.file = None), Problem::NoReceipt);
    assert_eq!(refused(|d| d.proposal.charge.task = TaskId::default()), Problem::NotAsked);
    assert!(matches!(refused(|d| d.proposal.charge.amount = Wei(u128::MAX)), Problem::Price { .. }));
    assert_eq!(refused(|d| d.proposal.charge.output_tokens = 11), Problem::TooManyTokens { charged: 11, received: 10 });
    assert_eq!(refused(|d| d.proposal.charge.input_tokens = 51), Problem::Prompt(51));
    assert_eq!(refused(|d| d.proposal.charge.receipt = None), Problem::Prompt(20), "a prompt needs a receipt");
    assert_eq!(refused(|d| d.proposal.charge.amount = Wei(1)), Problem::OtherReceipt("amount"));
    assert_eq!(refused(|d| d.proposal.charge.input_tokens = 21), Problem::OtherReceipt("number of prompt tokens"));
    assert_eq!(refused(|d| d.proposal.voucher.cumulative_amount = Wei(1)), Problem::DoesNotFollow);
    assert_eq!(refused(|d| d.proposal.voucher.receipts_root = B256::ZERO), Problem::DoesNotFollow);
    assert_eq!(refused(|d| d.proposal.voucher.miner = Operator::default()), Problem::OtherReceipt("miner"));
    assert!(matches!(refused(|d| d.file.as_mut().unwrap().tokens[0].id = 7), Problem::Receipt(_)));
    assert_eq!(refused(|d| d.file.as_mut().unwrap().domain.chain_id = 2), {
        let mut file = good.file.clone().unwrap();
        file.domain.chain_id = 2;
        Problem::Receipt(file.verify().unwrap_err())
    });
}

#[test]
fn a_receipt_for_other_tokens_or_a_higher_price_is_refused() {
    let mut world = world();
    let header = world.ask(10);
    world.book.end(header.task, true);
    let asked = world.book.tasks.get_mut(&header.task).unwrap();
    asked.ids[3] = Some(77);
    let good = world.finished(&header, 0, 20, 10);
    assert_eq!(world.judge(&good), Verdict::Object(Problem::OtherTokens));
    // Dear output and free input come to no more than the session allows, yet the price is above what it accepts.
    let dear = Price { input: Wei(0), output: Wei(5_000_000) };
    let file = world.file(&header, 0, 20, 10, dear);
    let receipt = &file.receipt.receipt;
    let charge = Charge {
        amount: receipt.amount,
        receipt: Some(receipt.leaf(&world.rules.domain)),
        ..good.proposal.charge.clone()
    };
    let dear = Delivery { proposal: Proposal { charge, ..good.proposal }, file: Some(file) };
    assert!(matches!(world.judge(&dear), Verdict::Object(Problem::Price { .. })));
}

#[test]
fn a_task_that_was_left_is_paid_up_to_what_it_was_allowed() {
    let mut world = world();
    let header = world.ask(10);
    world.book.end(header.task, false);
    let more = world.finished(&header, 0, 20, 14);
    assert_eq!(world.judge(&more), Verdict::Sign, "tokens were under way");
    let beyond = world.partial(header.task, 90);
    assert_eq!(world.judge(&beyond), Verdict::Object(Problem::TooManyTokens { charged: 104, received: 100 }));
}

#[test]
fn a_stored_book_goes_on() {
    let mut world = world();
    let header = world.ask(10);
    let stored = serde_json::to_vec(&world.book).unwrap();
    world.book = serde_json::from_slice(&stored).unwrap();
    world.book.restarted();
    assert_eq!(world.book.last_nonce(), 1);
    let delivery = world.finished(&header, 0, 20, 10);
    assert_eq!(world.judge(&delivery), Verdict::Sign);
}

#[test]
fn the_book_stays_bounded() {
    let mut world = world();
    let running = world.ask(0);
    for _ in 0..TASKS_MAX + 10 {
        let header = world.ask(0);
        world.book.end(header.task, false);
    }
    assert_eq!(world.book.tasks.len(), TASKS_MAX);
    assert!(world.book.tasks.contains_key(&running.task), "one that runs is kept");
}

proptest! {
    #[test]
    fn an_honest_router_is_paid_in_full(tasks in prop::collection::vec((0u32..40, 0u32..40, any::<bool>()), 1..20)) {
        let mut world = world();
        let mut due = Wei::ZERO;
        for (partial, finished, left) in tasks {
            let header = world.ask(partial + finished);
            world.book.end(header.task, !left);
            if partial > 0 {
                let delivery = world.partial(header.task, partial);
                due = due + delivery.proposal.charge.amount;
                prop_assert_eq!(world.judge(&delivery), Verdict::Sign);
            }
            let delivery = world.finished(&header, partial, 20, finished);
            due = due + delivery.proposal.charge.amount;
            prop_assert_eq!(world.judge(&delivery), Verdict::Sign);
        }
        prop_assert_eq!(world.book.signed(), due);
    }
}

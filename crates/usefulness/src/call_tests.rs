//! A record binds every call, and says when a call does not belong.

use super::*;
use alloy_primitives::Address;
use cortensor_protocol::{LogProb, Prompt, ResponseFormat, SamplingParams};

const GOOD: &str = r#"{"one":{"follows":4,"correct":4,"complete":4,"clear":4},"two":{"follows":2,"correct":2,"complete":2,"clear":2}}"#;
const BAD: &str = r#"{"one":{"follows":2,"correct":2,"complete":2,"clear":2},"two":{"follows":4,"correct":4,"complete":4,"clear":4}}"#;

const JUDGE: JudgeModel<'_> = JudgeModel { name: "judge", context: 8_192 };

fn bench() -> Bench {
    Bench {
        item: B256::repeat_byte(1),
        beacon: B256::repeat_byte(2),
        judge: Operator(Address::repeat_byte(3)),
        model: ModelId(B256::repeat_byte(4)),
    }
}

fn request() -> GenerationRequest {
    GenerationRequest {
        model: "m".into(),
        prompt: Prompt::Text("ask".into()),
        sampling: SamplingParams::default(),
        seed: None,
        max_tokens: 10,
        stop: Vec::new(),
        response_format: ResponseFormat::Text,
        logprobs: None,
    }
}

fn call(part: Part, request: GenerationRequest, text: &str) -> JudgeCall {
    JudgeCall {
        part,
        request,
        prompt_hash: B256::ZERO,
        salt: B256::repeat_byte(9),
        finish: FinishReason::EndOfSequence,
        text: text.into(),
        tokens: vec![TraceToken { id: 5, logprob: LogProb(-3) }],
        evidence: vec![Evidence::NONE],
    }
}

fn record() -> JudgeRecord {
    let bench = bench();
    let own = call(Part::Own, own_answer(&request(), &JUDGE, false).unwrap(), "mine");
    let grade = |part, order| grading(&request(), ("theirs", "mine"), order, &bench.tag(part), &JUDGE);
    let forward = call(Part::Forward, grade(Part::Forward, Order::Forward), GOOD);
    let reverse = call(Part::Reverse, grade(Part::Reverse, Order::Reverse), BAD);
    JudgeRecord { calls: vec![own, forward, reverse] }
}

fn verify(record: &JudgeRecord, text: &str, checked: &Checked) -> Result<(), RecordError> {
    let request = request();
    record.verify(
        &bench(),
        &JUDGE,
        &Judged { request: &request, text, finish: FinishReason::EndOfSequence, checked, same_vocabulary: false },
    )
}

#[test]
fn an_honest_record_holds_and_makes_its_score() {
    let fine = Checked::default();
    assert!(verify(&record(), "theirs", &fine).is_ok());
    assert_eq!(record().score(&fine), 1_250_000, "half of the points, both ways");
    assert_eq!(JudgeRecord::default().score(&fine), NEUTRAL);
    let mut unread = record();
    unread.calls[2].text = "ANSWER TWO is best".into();
    assert_eq!(unread.score(&fine), NEUTRAL);
}

#[test]
fn calls_that_do_not_belong_are_found() {
    let fine = Checked::default();
    assert!(matches!(verify(&record(), "others", &fine), Err(RecordError::Request(Part::Forward))));
    let mut leading = record();
    leading.calls[1].request.max_tokens += 1;
    assert!(matches!(verify(&leading, "theirs", &fine), Err(RecordError::Request(Part::Forward))));
    let mut swapped = record();
    swapped.calls.swap(1, 2);
    assert!(matches!(verify(&swapped, "theirs", &fine), Err(RecordError::Request(Part::Forward))));
    let mut weaker = record();
    weaker.calls[0].text = "a weak answer".into();
    assert!(matches!(verify(&weaker, "theirs", &fine), Err(RecordError::Request(Part::Forward))));
    let mut fewer = record();
    fewer.calls.pop();
    assert!(matches!(verify(&fewer, "theirs", &fine), Err(RecordError::Calls(2))));
    let mut unproved = record();
    unproved.calls[0].evidence.clear();
    assert!(matches!(verify(&unproved, "theirs", &fine), Err(RecordError::Trace(Part::Own, _))));
    let empty = crate::checks::check(&crate::checks::Answer {
        request: &request(),
        text: "",
        finish: FinishReason::EndOfSequence,
    });
    assert!(empty.is_decided());
    assert!(matches!(verify(&record(), "", &empty), Err(RecordError::Needless)));
    assert!(verify(&JudgeRecord::default(), "", &empty).is_ok());
    assert_eq!(JudgeRecord::default().root(&bench()), B256::ZERO);
}

#[test]
fn the_root_binds_every_part() {
    let root = record().root(&bench());
    let changes: [fn(&mut JudgeRecord, &mut Bench); 8] = [
        |record, _| record.calls[0].text.push('x'),
        |record, _| record.calls[1].tokens[0].id += 1,
        |record, _| record.calls[1].salt = B256::ZERO,
        |record, _| record.calls[2].finish = FinishReason::Length,
        |record, _| record.calls[2].request.max_tokens += 1,
        |record, _| record.calls[0].prompt_hash = B256::repeat_byte(1),
        |_, bench| bench.beacon = B256::ZERO,
        |_, bench| bench.model = ModelId(B256::ZERO),
    ];
    for (index, change) in changes.into_iter().enumerate() {
        let (mut record, mut bench) = (record(), bench());
        change(&mut record, &mut bench);
        assert_ne!(record.root(&bench), root, "{index}");
    }
}

#[test]
fn seeds_differ_by_judge_item_beacon_and_part() {
    let base = bench();
    let others = [
        Bench { item: B256::ZERO, ..base }.seed(Part::Own),
        Bench { beacon: B256::ZERO, ..base }.seed(Part::Own),
        Bench { judge: Operator(Address::ZERO), ..base }.seed(Part::Own),
        base.seed(Part::Forward),
        base.seed(Part::Reverse),
    ];
    assert!(!others.contains(&base.seed(Part::Own)));
}

//! Rules of the choice as properties over random clusters, cases that a person can follow, and a load simulation.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use alloy_primitives::{Address, B256};
use cortensor_protocol::{
    Capability, ModelId, Operator, Price, State, Tier, Wei,
    manifest::{Load, Speed},
};
use cortensor_scheduler::{
    Offer, Policy, Rejection, Reputation, Request, Settings, SpeedSource, WorkerSnapshot, choose, filter::admit,
};
use proptest::prelude::*;

fn operator(number: u64) -> Operator {
    let mut bytes = [0u8; 20];
    bytes[12..].copy_from_slice(&number.to_be_bytes());
    Operator(Address::from(bytes))
}

fn worker(number: u64) -> WorkerSnapshot {
    WorkerSnapshot {
        operator: operator(number),
        offer: Offer {
            model: ModelId::default(),
            price: Price { input: Wei(100_000_000), output: Wei(300_000_000) },
            tier: Tier::A,
            context: 8_192,
            slots: 4,
            embeds: false,
        },
        load: Load::default(),
        claimed: Speed { prefill_tokens_per_second: 1_000, decode_tokens_per_second: 50 },
        seen: Speed::default(),
        capability: None,
        draining: false,
        state: State::Good,
        reputation: Reputation::NEUTRAL,
        in_flight: 0,
        prefix_tokens: 0,
        recent_failures: 0,
    }
}

fn request() -> Request {
    Request {
        model: ModelId::default(),
        prompt_tokens: 1_000,
        max_tokens: 200,
        resume_tokens: 0,
        price_limit: Price { input: Wei(200_000_000), output: Wei(600_000_000) },
        min_tier: Tier::D,
        context_needed: 1_200,
        excluded: vec![],
        only: None,
        embeddings: false,
    }
}

/// Changes a worker and says how the filters judge it.
fn check_filter(change: impl FnOnce(&mut WorkerSnapshot, &mut Request), expect: Option<Rejection>) {
    let (mut worker, mut request) = (worker(1), request());
    change(&mut worker, &mut request);
    assert_eq!(admit(&worker, &request, &Settings::default()).err(), expect);
    assert_eq!(choose(&[worker], &request, &Settings::default(), 7).is_err(), expect.is_some());
}

#[test]
fn each_filter_names_its_reason() {
    check_filter(|_, _| (), None);
    check_filter(|w, _| w.offer.model = ModelId(B256::repeat_byte(1)), Some(Rejection::Model));
    check_filter(|w, _| w.draining = true, Some(Rejection::Draining));
    check_filter(|_, r| r.embeddings = true, Some(Rejection::Embeddings));
    check_filter(|w, r| r.excluded = vec![w.operator], Some(Rejection::Excluded));
    check_filter(|w, _| w.offer.context = 1_199, Some(Rejection::Context { offered: 1_199, needed: 1_200 }));
    check_filter(|w, _| w.load.queued = 7, None);
    check_filter(|w, _| w.load.queued = 8, Some(Rejection::Full { busy: 8, slots: 4 }));
    check_filter(|w, _| w.in_flight = 8, Some(Rejection::Full { busy: 8, slots: 4 }));
    let dear = Price { input: Wei(100_000_000), output: Wei(601_000_000) };
    check_filter(|w, _| w.offer.price = dear, Some(Rejection::Price { asked: dear }));
    let tier = Rejection::Tier { offered: Tier::C, demanded: Tier::B };
    check_filter(|w, r| (w.offer.tier, r.min_tier) = (Tier::C, Tier::B), Some(tier));
    check_filter(|w, r| r.only = Some(w.operator), None);
    check_filter(|_, r| r.only = Some(operator(2)), Some(Rejection::NotNamed));
    check_filter(|w, _| w.state = State::Watched, None);
    for state in [State::Suspended, State::Slashed] {
        check_filter(|w, _| w.state = state, Some(Rejection::Standing { state }));
    }
    let measured = |change: fn(&mut Capability)| {
        let mut capability = Capability { context_tokens: 8_192, concurrency: 4, ..Capability::default() };
        change(&mut capability);
        Some(capability)
    };
    check_filter(|w, _| w.capability = measured(|_| ()), None);
    let short = Rejection::Context { offered: 1_000, needed: 1_200 };
    check_filter(|w, _| w.capability = measured(|c| c.context_tokens = 1_000), Some(short));
    let full = |w: &mut WorkerSnapshot| {
        (w.capability, w.load.active) = (measured(|c| c.concurrency = 1), 2);
    };
    check_filter(|w, _| full(w), Some(Rejection::Full { busy: 2, slots: 1 }));
}

#[test]
fn what_was_seen_beats_what_the_network_measured_and_that_beats_claims() {
    let speed = |decode| Speed { prefill_tokens_per_second: 0, decode_tokens_per_second: decode };
    let mut one = worker(1);
    assert_eq!((one.speed().0.decode_tokens_per_second, one.speed().1), (50, SpeedSource::Claim));
    one.capability = Some(Capability { decode_tokens_per_second: 20, ..Capability::default() });
    assert_eq!((one.speed().0.decode_tokens_per_second, one.speed().1), (20, SpeedSource::Network));
    assert_eq!(one.speed().0.prefill_tokens_per_second, 1_000, "each number from the best source that has it");
    one.seen = speed(10);
    assert_eq!((one.speed().0.decode_tokens_per_second, one.speed().1), (10, SpeedSource::Router));
    // A boaster loses against an honest worker once its real speed is known.
    check_preferred(|w| w.claimed.decode_tokens_per_second = 500, true);
    check_preferred(|w| (w.claimed.decode_tokens_per_second, w.seen) = (500, speed(10)), false);
}

#[test]
fn of_two_equals_the_better_reputed_gets_more_and_watched_ones_less() {
    let share_of_first = |change: fn(&mut WorkerSnapshot)| {
        let mut workers: Vec<_> = (0..8).map(worker).collect();
        change(&mut workers[0]);
        let settings = Settings { tolerance_permille: 3_000, ..Settings::default() };
        let random = |step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let chosen = |step| choose(&workers, &request(), &settings, random(step)).unwrap().operator;
        (0..4_000).filter(|step| chosen(*step) == operator(0)).count()
    };
    let equal = share_of_first(|w| w.reputation = Reputation::from_ppm(500_000));
    let better = share_of_first(|w| w.reputation = Reputation::from_ppm(900_000));
    let worse = share_of_first(|w| w.reputation = Reputation::from_ppm(400_000));
    let watched = share_of_first(|w| w.state = State::Watched);
    assert!(better > 900 && better >= equal, "{better} of 4,000, {equal} as an equal");
    assert!(worse < 100 && watched < 100, "{worse} and {watched} of 4,000");
}

/// Two workers, the first changed: whether the first is preferred, whatever the random number.
fn check_preferred(change: impl FnOnce(&mut WorkerSnapshot), first_is_better: bool) {
    let mut workers = [worker(1), worker(2)];
    change(&mut workers[0]);
    for random in [0, 1, u64::MAX, 0x1234_5678_9abc_def0] {
        let choice = choose(&workers, &request(), &Settings::default(), random).unwrap();
        assert_eq!(choice.operator == workers[0].operator, first_is_better, "{}", choice.reason);
    }
}

#[test]
fn speed_load_price_reputation_failures_and_prefix_each_count() {
    check_preferred(|w| w.claimed.decode_tokens_per_second = 60, true);
    check_preferred(|w| w.claimed.decode_tokens_per_second = 40, false);
    check_preferred(|w| w.claimed.prefill_tokens_per_second = 500, false);
    check_preferred(|w| w.load.active = 2, false);
    check_preferred(|w| w.load.queued = 5, false);
    check_preferred(|w| w.offer.price.output = Wei(100_000_000), true);
    check_preferred(|w| w.offer.price.output = Wei(600_000_000), false);
    check_preferred(|w| w.reputation = Reputation(1_500), true);
    check_preferred(|w| w.reputation = Reputation(0), false);
    check_preferred(|w| w.state = State::Watched, false);
    check_preferred(|w| w.recent_failures = 1, false);
    check_preferred(|w| w.prefix_tokens = 900, true);
}

#[test]
fn a_cached_prefix_wins_against_equals_and_loses_against_a_long_queue() {
    let mut workers: Vec<_> = (0..20).map(worker).collect();
    workers[13].prefix_tokens = 800;
    for random in 0..100u64 {
        let random = random.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let choice = choose(&workers, &request(), &Settings::default(), random).unwrap();
        assert_eq!((choice.operator, choice.reason.policy), (operator(13), Policy::Prefix));
    }
    workers[13].load.queued = 7;
    let choice = choose(&workers, &request(), &Settings::default(), 5).unwrap();
    assert_ne!(choice.operator, operator(13), "{}", choice.reason);
}

#[test]
fn an_unmeasured_worker_is_tried_once_and_not_flooded() {
    let mut workers = vec![worker(1), worker(2), worker(3)];
    workers[0].claimed = Speed { prefill_tokens_per_second: 100, decode_tokens_per_second: 5 };
    workers[2].claimed = Speed::default();
    let tried = |workers: &[WorkerSnapshot]| {
        let random = |step: u64| step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let chosen = |step| choose(workers, &request(), &Settings::default(), random(step)).unwrap().operator;
        (0..200).filter(|step| chosen(*step) == operator(3)).count()
    };
    workers[1].load.active = 1;
    assert!(tried(&workers) > 0, "taken for as fast as the fastest while idle");
    workers[2].in_flight = 1;
    assert_eq!(tried(&workers), 0, "taken for as slow as the slowest once it has work");
}

#[test]
fn reasons_read_well() {
    let choice = choose(&[worker(1), worker(2)], &request(), &Settings::default(), 0).unwrap();
    assert_eq!(
        choice.reason.to_string(),
        "expected in 5000 ms (wait 0, prompt 1000, output 4000) at the speed that the worker claims; good, reputation \
         1000 per mille; 2 of 2 workers could serve it; better of two drawn from the best 2"
    );
    let mut full = worker(1);
    full.in_flight = 9;
    let error = choose(&[full], &request(), &Settings::default(), 0).unwrap_err();
    assert!(error.is_temporary() && error.model_is_offered());
    assert_eq!(
        error.to_string(),
        "no worker can take the request: 0x0000000000000000000000000000000000000001 is full: 9 tasks on 4 slots;"
    );
    let none = choose(&[], &request(), &Settings::default(), 0).unwrap_err();
    assert!(!none.is_temporary() && !none.model_is_offered());
}

/// Places tasks that never end on equal workers; loads are seen only after every `stale` placements. Returns the
/// longest queue.
fn longest_queue(workers: u64, tasks: u64, stale: u64, mut place: impl FnMut(&[WorkerSnapshot], u64) -> usize) -> u32 {
    let mut cluster: Vec<_> = (0..workers).map(worker).collect();
    for worker in &mut cluster {
        worker.offer.slots = 1_000;
    }
    let mut real = vec![0u32; cluster.len()];
    let mut random = 42u64;
    for task in 0..tasks {
        if task % stale == 0 {
            for (worker, load) in cluster.iter_mut().zip(&real) {
                worker.load.active = *load;
            }
        }
        // xorshift64: any full-period generator will do here.
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        real[place(&cluster, random)] += 1;
    }
    real.into_iter().max().unwrap()
}

#[test]
fn two_choices_balance_better_than_chance_even_on_stale_loads() {
    let settings = Settings { tolerance_permille: 10_000, pool: 64, ..Settings::default() };
    let policy = |workers: &[WorkerSnapshot], random| choose(workers, &request(), &settings, random).unwrap().index;
    let chance = |workers: &[WorkerSnapshot], random: u64| usize::try_from(random >> 32).unwrap() % workers.len();
    for stale in [1, 16] {
        let (two, one) = (longest_queue(64, 1_280, stale, policy), longest_queue(64, 1_280, stale, chance));
        assert!(two <= 24, "20 on average, the longest is {two}");
        assert!(two < one, "two choices {two}, chance {one}");
    }
}

#[test]
fn always_taking_the_best_would_herd_and_the_draw_does_not() {
    let settings = Settings::default();
    let policy = |workers: &[WorkerSnapshot], random| choose(workers, &request(), &settings, random).unwrap().index;
    let herd = |workers: &[WorkerSnapshot], _| (0..workers.len()).min_by_key(|i| workers[*i].load.active).unwrap();
    let (draw, best) = (longest_queue(16, 320, 32, policy), longest_queue(16, 320, 32, herd));
    assert!(draw < best, "draw {draw}, always the best {best}");
}

prop_compose! {
    fn any_u32()(kind in 0u8..4, small in 0u32..20, any in any::<u32>()) -> u32 {
        match kind { 0 => 0, 1 => u32::MAX, 2 => small, _ => any }
    }
}

prop_compose! {
    fn any_wei()(kind in 0u8..3, any in any::<u128>()) -> Wei {
        match kind { 0 => Wei(0), 1 => Wei(any), _ => Wei(any >> 80) }
    }
}

prop_compose! {
    fn any_worker()(
        number in 0u64..6, model in 0u8..2, prices in (any_wei(), any_wei()), tier in 0u8..4,
        sizes in (any_u32(), any_u32()), embeds in any::<bool>(), load in (any_u32(), any_u32()),
        speeds in (any_u32(), any_u32()), draining in prop::bool::weighted(0.1), reputation in any_u32(),
        state in 0u8..4, measured in prop::option::of(prop::array::uniform8(any_u32())),
        rest in (any_u32(), any_u32(), any_u32()),
    ) -> WorkerSnapshot {
        WorkerSnapshot {
            operator: operator(number),
            offer: Offer {
                model: ModelId(B256::repeat_byte(model)),
                price: Price { input: prices.0, output: prices.1 },
                tier: Tier::from_u8(tier).unwrap(),
                context: sizes.0,
                slots: sizes.1,
                embeds,
            },
            load: Load { active: load.0, queued: load.1, kv_used: 0, kv_total: 0 },
            claimed: Speed { prefill_tokens_per_second: speeds.0, decode_tokens_per_second: speeds.1 },
            seen: Speed::default(),
            capability: measured.map(Capability::from_numbers),
            draining,
            state: State::from_u8(state).unwrap(),
            reputation: Reputation(reputation),
            in_flight: rest.0,
            prefix_tokens: rest.1,
            recent_failures: rest.2,
        }
    }
}

prop_compose! {
    fn any_request()(
        numbers in (any_u32(), any_u32(), any_u32(), any_u32()), limits in (any_wei(), any_wei()), tier in 0u8..4,
        excluded in prop::collection::vec(0u64..6, 0..3), only in prop::option::weighted(0.2, 0u64..6), embeddings in prop::bool::weighted(0.2),
    ) -> Request {
        Request {
            model: ModelId(B256::ZERO),
            prompt_tokens: numbers.0,
            max_tokens: numbers.1,
            resume_tokens: numbers.2,
            price_limit: Price { input: limits.0, output: limits.1 },
            min_tier: Tier::from_u8(tier).unwrap(),
            context_needed: numbers.3,
            excluded: excluded.into_iter().map(operator).collect(),
            only: only.map(operator),
            embeddings,
        }
    }
}

prop_compose! {
    fn any_settings()(n in (any_u32(), any_u32(), any_u32(), any_u32(), any_u32(), any_u32(), any_u32()), pool in any::<u8>())
        -> Settings {
        Settings {
            queue_permille: n.0, sharing_permille: n.1, price_permille: n.2, failure_permille: n.3, watched_permille: n.0,
            tolerance_permille: n.4, pool, expected_output_tokens_max: n.5, prefix_permille: n.6, prefix_tokens_min: 1,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn a_filtered_worker_is_never_chosen_and_nothing_overflows(
        workers in prop::collection::vec(any_worker(), 0..12), request in any_request(), settings in any_settings(),
        random in any::<u64>(),
    ) {
        match choose(&workers, &request, &settings, random) {
            Ok(choice) => {
                let chosen = &workers[choice.index];
                prop_assert_eq!(chosen.operator, choice.operator);
                prop_assert_eq!(admit(chosen, &request, &settings), Ok(()));
                prop_assert!(choice.reason.cost_us >= choice.reason.best_cost_us);
                prop_assert!(!choice.reason.to_string().is_empty());
            }
            Err(none) => {
                prop_assert_eq!(none.rejections.len(), workers.len());
                prop_assert!(workers.iter().all(|worker| admit(worker, &request, &settings).is_err()));
            }
        }
    }

    #[test]
    fn the_choice_depends_on_the_random_number_alone_and_not_on_the_order_of_the_snapshots(
        workers in prop::collection::vec(any_worker(), 1..12), request in any_request(), random in any::<u64>(),
        turn in 0usize..12,
    ) {
        let mut unique = workers;
        unique.sort_by_key(|worker| worker.operator);
        unique.dedup_by_key(|worker| worker.operator);
        let settings = Settings::default();
        let mut turned = unique.clone();
        turned.rotate_left(turn % unique.len());
        let (one, two) = (choose(&unique, &request, &settings, random), choose(&turned, &request, &settings, random));
        match (one, two) {
            (Ok(one), Ok(two)) => {
                prop_assert_eq!(one.operator, two.operator);
                prop_assert_eq!(one.reason, two.reason);
            }
            (one, two) => prop_assert!(one.is_err() && two.is_err()),
        }
    }
}

//! Seeds through the simulated world. `CORTENSOR_SEEDS` sets how many each test takes, `CORTENSOR_SEED` the first.

use crate::{
    byzantine::{LIES, Lie},
    world::{Weather, World},
};

const EQUAL: [u64; 4] = [1, 1, 1, 1];
/// Nobody has a third; four together may be needed or not.
const UNEQUAL: [u64; 7] = [30, 25, 20, 10, 8, 5, 2];

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let number = |name: &str, usual| std::env::var(name).map_or(usual, |text| text.parse().unwrap());
    let first = number("CORTENSOR_SEED", 1);
    first..first + number("CORTENSOR_SEEDS", usual)
}

fn storm(seed: u64) -> Weather {
    Weather {
        loss: seed % 4 * 8,
        repeats: seed % 3 * 10,
        delay_ms_max: 1 + seed % 5 * 40,
        crash_once_in: [0, 150, 400][seed as usize % 3],
        groups: if seed.is_multiple_of(5) { 2 } else { 1 },
        heals_at_ms: 1_500,
    }
}

#[test]
fn blocks_come_without_delay_in_fine_weather() {
    let mut world = World::new(1, &EQUAL, Weather::fine());
    world.run_to(50, 5_000);
    assert!(world.hour_ms() < 3_000, "50 blocks took {} ms", world.hour_ms());
}

#[test]
fn storms_neither_fork_nor_stop_four_validators() {
    for seed in seeds(600) {
        let mut world = World::new(seed, &EQUAL, storm(seed));
        world.run_until(1_500);
        let reached = world.heights().1;
        world.run_to(reached + 2, 60_000);
    }
}

#[test]
fn storms_neither_fork_nor_stop_seven_unequal_validators() {
    for seed in seeds(120) {
        let mut world = World::new(seed, &UNEQUAL, storm(seed));
        world.run_until(1_500);
        let reached = world.heights().1;
        world.run_to(reached + 2, 60_000);
    }
}

#[test]
fn one_liar_among_four_changes_nothing() {
    for seed in seeds(350) {
        let mut world = World::new(seed, &EQUAL, storm(seed / 7));
        world.nodes[seed as usize / 7 % 4].lie = Some(LIES[seed as usize % LIES.len()]);
        world.run_until(1_500);
        let reached = world.heights().1;
        world.run_to(reached + 2, 90_000);
    }
}

#[test]
fn two_liars_among_seven_change_nothing() {
    for seed in seeds(100) {
        let mut world = World::new(seed, &[1; 7], storm(seed));
        world.nodes[seed as usize % 7].lie = Some(LIES[seed as usize % LIES.len()]);
        world.nodes[(seed as usize + 3) % 7].lie = Some(LIES[seed as usize / 7 % LIES.len()]);
        world.run_until(1_500);
        let reached = world.heights().1;
        world.run_to(reached + 2, 90_000);
    }
}

#[test]
fn whoever_votes_twice_is_found_out_and_nobody_else() {
    for seed in seeds(20) {
        let mut world = World::new(seed, &EQUAL, storm(seed));
        world.nodes[2].lie = Some(Lie::Equivocation);
        world.run_until(1_500);
        world.run_to(world.heights().1 + 20, 60_000);
        let liar = world.nodes[2].signer.address();
        assert!(world.nodes.iter().any(|node| node.convicted.contains(&liar)), "seed {seed}");
        assert!(world.nodes.iter().all(|node| node.convicted.iter().all(|one| *one == liar)), "seed {seed}");
    }
}

#[test]
fn whoever_spoils_blocks_is_blamed() {
    let mut world = World::new(3, &EQUAL, Weather::fine());
    world.nodes[2].lie = Some(Lie::SpoiledParts);
    world.run_to(20, 60_000);
    let liar = cortensor_consensus::engine::Peer(alloy::primitives::B256::with_last_byte(2));
    assert!(world.nodes.iter().any(|node| node.blamed.contains(&liar)));
    assert!(world.nodes.iter().all(|node| node.blamed.iter().all(|peer| *peer == liar)));
}

#[test]
fn without_two_thirds_nothing_is_decided_and_then_it_goes_on() {
    let mut world = World::new(5, &EQUAL, Weather::fine());
    world.start_later(2, 3_000);
    world.start_later(3, 3_000);
    world.run_until(2_900);
    assert_eq!(world.heights(), (0, 0));
    world.run_to(20, 20_000);
}

#[test]
fn a_late_validator_takes_over_what_was_decided() {
    let mut world = World::new(6, &EQUAL, Weather::fine());
    world.start_later(3, 3_000);
    world.run_until(2_900);
    let (_, most) = world.heights();
    assert!(most > 5);
    world.run_to(most + 10, 20_000);
}

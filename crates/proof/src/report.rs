//! What a profile looks like to people: a table, and a plot as an SVG document.

use crate::{
    evidence::{BINS, Charge, Statistic},
    profile::{Histogram, ONE, Profile},
    score::Policy,
};
use std::fmt::Write as _;

/// A table of the honest noise and of every cheat.
#[must_use]
pub fn table(profile: &Profile) -> String {
    let parts = profile.parts();
    let mut text = format!(
        "{} honest tokens in {} answers, temper {} and {}, hard margin {}/1024 nat\n\n",
        parts.tokens,
        parts.answers,
        decimal(parts.temper_ppm[Charge::Computation as usize]),
        decimal(parts.temper_ppm[Charge::Sampling as usize]),
        parts.hard_margin,
    );
    text.push_str(
        "case                                              charge       mismatch  over noise  bits/token  tokens to convict\n",
    );
    line(&mut text, ("honest", ""), profile.honest_mismatch_ppm(), "1.0", "", "");
    let convicting = Policy::default().convict;
    for cheat in &parts.cheats {
        let name = if cheat.weak { format!("{} (weak)", cheat.name) } else { cheat.name.clone() };
        let separation = format!("{}.{}", cheat.separation_milli / 1_000, cheat.separation_milli % 1_000 / 100);
        let milli = i64::from(cheat.drift) * 1_000 / 65_536;
        let sign = if milli < 0 { "-" } else { "" };
        let bits = format!("{sign}{}.{:03}", milli.abs() / 1_000, milli.abs() % 1_000);
        let tokens =
            if cheat.drift > 0 { (convicting / i64::from(cheat.drift) + 1).to_string() } else { "never".into() };
        line(&mut text, (&name, cheat.charge.name()), cheat.mismatch_ppm, &separation, &bits, &tokens);
    }
    text
}

fn decimal(ppm: u32) -> String {
    format!("{}.{:03}", ppm / 1_000_000, ppm % 1_000_000 / 1_000)
}

fn line(
    text: &mut String,
    (name, charge): (&str, &str),
    mismatch_ppm: u32,
    separation: &str,
    bits: &str,
    tokens: &str,
) {
    let mismatch = format!("{}.{:02} %", mismatch_ppm / 10_000, mismatch_ppm % 10_000 / 100);
    let row = format!("{name:<48}  {charge:<11}  {mismatch:>8}  {separation:>10}  {bits:>10}  {tokens:>17}");
    text.push_str(row.trim_end());
    text.push('\n');
}

const PANEL: u32 = 180;
const WIDTH: u32 = 640;
const FLOOR: u32 = 130;

/// A plot: for each statistic, the share of honest tokens and of the cheats' in each bin, on a logarithmic scale from one in
/// a million to all.
#[must_use]
pub fn plot(profile: &Profile) -> String {
    let height = PANEL * 3 + 30;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n\
         <text x=\"40\" y=\"18\"><tspan fill=\"#2a7\">■</tspan> honest  <tspan fill=\"#d43\">■</tspan> cheats in \
         computation  <tspan fill=\"#47c\">■</tspan> in sampling; \
         share of tokens, 10⁻⁶ to 1</text>\n"
    );
    for (row, statistic) in (0..).zip(Statistic::ALL) {
        panel(&mut svg, 30 + row * PANEL, statistic, profile);
    }
    svg.push_str("</svg>\n");
    svg
}

fn panel(svg: &mut String, top: u32, statistic: Statistic, profile: &Profile) {
    let row = statistic as usize;
    let histogram: &Histogram = &profile.parts().histograms[row];
    let cheats = Charge::ALL.map(|charge| &profile.parts().charges[charge as usize].cheat[row]);
    let unit = match statistic {
        Statistic::Margin | Statistic::LogProb => "1/1024 nat",
        Statistic::Sketch => "squared distance / 2²⁰",
    };
    let honest: u64 = histogram.honest.iter().copied().map(u64::from).sum();
    let mut write = |text: std::fmt::Arguments<'_>| svg.write_fmt(text).expect("strings take everything");
    write(format_args!("<text x=\"40\" y=\"{}\">{}, {unit}</text>\n", top + 12, statistic.name()));
    for (bin, x) in (0..BINS).zip((40..).step_by(36)) {
        let [computation, sampling] = cheats.map(|cheat| u64::from(cheat[bin]));
        let shares = [
            (u64::from(histogram.honest[bin]), honest, "#2a7"),
            (computation, ONE.into(), "#d43"),
            (sampling, ONE.into(), "#47c"),
        ];
        for ((count, all, colour), x) in shares.into_iter().zip([x, x + 10, x + 20]) {
            let tall = bar(count, all);
            let y = top + FLOOR - tall;
            write(format_args!("<rect x=\"{x}\" y=\"{y}\" width=\"9\" height=\"{tall}\" fill=\"{colour}\"/>\n"));
        }
        let from = bin.checked_sub(1).map_or(0, |edge| histogram.edges[edge]);
        write(format_args!("<text x=\"{x}\" y=\"{}\" font-size=\"8\">{from}</text>\n", top + FLOOR + 11));
    }
}

/// Height of a bar: twenty for each power of ten above one in a million.
fn bar(count: u64, all: u64) -> u32 {
    let ppm = u128::from(count) * 1_000_000 / u128::from(all.max(1));
    // Tenths of a power of ten by comparing with 10^(1/10) = 1.2589.
    let (mut tenths, mut level) = (0, 1_000_000u128);
    while level <= ppm * 1_000_000 && tenths < 60 {
        level = level * 12_589 / 10_000;
        tenths += 1;
    }
    tenths * 2
}

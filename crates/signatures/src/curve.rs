//! Points of secp256k1 and sums of many multiples of them.
//!
//! Additions are of affine points, many at a time: each needs a division, and all divisions of a round share one
//! inversion (P. Montgomery, 1987). Multiples are summed by windows of their digits: in each window, points with the same
//! digit are added first, and the sums are then weighted with their digits.

use k256::{
    AffinePoint, EncodedPoint, FieldBytes, FieldElement, ProjectivePoint, elliptic_curve::sec1::FromEncodedPoint as _,
};

/// The constant of `y² = x³ + 7`.
const B: u64 = 7;
/// An inversion costs as much as so many additions.
const INVERSION_COST: usize = 40;
/// So many points at least are added up in the same rounds, unless there are fewer.
const ROUND_POINTS: usize = 2_048;
/// Widest window.
const WINDOW_BITS_MAX: usize = 11;

/// A point of the curve other than the one at infinity, both coordinates normalised.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    x: FieldElement,
    y: FieldElement,
}

impl Point {
    /// The point with this abscissa and a `y` of this parity; none when there is none.
    pub(crate) fn with_abscissa(x: &[u8; 32], odd: bool) -> Option<Self> {
        let x = element(x)?;
        let y = Option::<FieldElement>::from(right_side(&x).sqrt())?.normalize();
        let y = if bool::from(y.is_odd()) == odd { y } else { y.negate(1).normalize() };
        Some(Self { x, y })
    }

    /// The point with these coordinates; none when it is not on the curve.
    pub(crate) fn stated(bytes: &[u8; 64]) -> Option<Self> {
        let (x, y) = bytes.split_at(32);
        let (x, y) = (element(x.try_into().ok()?)?, element(y.try_into().ok()?)?);
        let difference = y.square() + right_side(&x).negate(2);
        bool::from(difference.normalizes_to_zero()).then_some(Self { x, y })
    }

    fn negated(&self) -> Self {
        Self { x: self.x, y: self.y.negate(1).normalize_weak() }
    }

    fn projective(&self) -> Option<ProjectivePoint> {
        let (x, y) = (self.x.normalize().to_bytes(), self.y.normalize().to_bytes());
        let encoded = EncodedPoint::from_affine_coordinates(&x, &y, false);
        Option::<AffinePoint>::from(AffinePoint::from_encoded_point(&encoded)).map(ProjectivePoint::from)
    }
}

/// A canonical number modulo the field's prime.
fn element(bytes: &[u8; 32]) -> Option<FieldElement> {
    FieldElement::from_bytes(&FieldBytes::from(*bytes)).into()
}

/// `x³ + 7`, of magnitude 2.
fn right_side(x: &FieldElement) -> FieldElement {
    x.square() * x + FieldElement::from_u64(B)
}

/// A point and how many of it.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    point: Point,
    /// The least significant first.
    factor: [u64; 4],
    bits: usize,
}

impl Term {
    /// With a factor of 128 bits.
    pub(crate) fn short(point: Point, factor: u128) -> Self {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half and the upper half")]
        let factor = [factor as u64, (factor >> 64) as u64, 0, 0];
        Self { point, factor, bits: 128 }
    }

    /// With a factor of 256 bits, the least significant 64 first.
    pub(crate) fn long(point: Point, factor: [u64; 4]) -> Self {
        Self { point, factor, bits: 256 }
    }

    /// Windows that its digits fill; the last one takes what the one before carries.
    fn windows(&self, width: usize) -> usize {
        self.bits / width + 1
    }

    /// The bits of a window, and those below it carried over: a digit from `-2^(width-1)` to `2^(width-1)`.
    fn digit(&self, window: usize, width: usize, carry: &mut u32) -> i32 {
        let start = window * width;
        let (limb, shift) = (start / 64, start % 64);
        let low = self.factor.get(limb).map_or(0, |limb| limb >> shift);
        let high = self.factor.get(limb + 1).filter(|_| shift + width > 64).map_or(0, |limb| limb << (64 - shift));
        #[allow(clippy::cast_possible_truncation, reason = "windows have 11 bits at most")]
        let raw = ((low | high) & ((1 << width) - 1)) as u32 + *carry;
        *carry = u32::from(raw > 1 << (width - 1));
        #[allow(clippy::cast_possible_wrap, reason = "at most 2^11")]
        let digit = raw as i32;
        digit - (*carry as i32) * (1 << width)
    }
}

/// The sum of all terms. None only if a sum is not on the curve, which arithmetic excludes.
pub(crate) fn sum(terms: &[Term]) -> Option<ProjectivePoint> {
    let width = width(terms);
    let windows = terms.iter().map(|term| term.windows(width)).max().unwrap_or(0);
    let mut adder = Adder::default();
    let mut carries = vec![0; terms.len()];
    let mut buckets: Vec<Option<Point>> = Vec::with_capacity(windows << (width - 1));
    let mut window = 0;
    while window < windows {
        let mut stretches = Stretches::default();
        while window < windows && (stretches.ends.is_empty() || stretches.points.len() < ROUND_POINTS) {
            stretches.push_window(terms, window, width, &mut carries);
            window += 1;
        }
        buckets.extend(stretches.sums(&mut adder));
    }
    let weighted = weigh(&buckets, windows, &mut adder);
    let mut sum = ProjectivePoint::IDENTITY;
    for window in weighted.into_iter().rev() {
        for _ in 0..width {
            sum = sum.double();
        }
        if let Some(point) = window {
            sum += point.projective()?;
        }
    }
    Some(sum)
}

/// The width of window with the least work.
fn width(terms: &[Term]) -> usize {
    let cost = |width: &usize| {
        let spread: usize = terms.iter().map(|term| term.windows(*width)).sum();
        let windows = terms.iter().map(|term| term.windows(*width)).max().unwrap_or(0);
        spread + (1 << (width - 1)) * (2 * windows + INVERSION_COST)
    };
    (2..=WINDOW_BITS_MAX).min_by_key(cost).unwrap_or(2)
}

/// Points that are to be added up, those with the same digit of the same window next to each other.
#[derive(Debug, Default)]
struct Stretches {
    points: Vec<Option<Point>>,
    /// Where each stretch ends and the next one begins.
    ends: Vec<usize>,
}

impl Stretches {
    /// Sorts all points by a window's digit, from 1 to the largest; those with negative digits count negated, and those
    /// without one are left out.
    fn push_window(&mut self, terms: &[Term], window: usize, width: usize, carries: &mut [u32]) {
        let first = self.ends.len();
        let start = self.points.len();
        self.ends.resize(first + (1 << (width - 1)), 0);
        let mut digits = Vec::with_capacity(terms.len());
        for (term, carry) in terms.iter().zip(carries) {
            let digit = if window < term.windows(width) { term.digit(window, width, carry) } else { 0 };
            if digit != 0 {
                self.ends[first + digit.unsigned_abs() as usize - 1] += 1;
            }
            digits.push(digit);
        }
        // From lengths to beginnings, which become ends as the points are put in.
        let mut end = start;
        for place in &mut self.ends[first..] {
            (*place, end) = (end, end + *place);
        }
        self.points.resize(end, None);
        for (term, digit) in terms.iter().zip(digits).filter(|(_, digit)| *digit != 0) {
            let place = &mut self.ends[first + digit.unsigned_abs() as usize - 1];
            self.points[*place] = Some(if digit < 0 { term.point.negated() } else { term.point });
            *place += 1;
        }
    }

    /// The sum of each stretch, in rounds of pairs.
    fn sums(mut self, adder: &mut Adder) -> impl Iterator<Item = Option<Point>> {
        let mut step = 1;
        loop {
            adder.pairs.clear();
            let mut start = 0;
            for &end in &self.ends {
                let lefts = (start..end.saturating_sub(step)).step_by(2 * step);
                adder.pairs.extend(lefts.map(|left| (left, left + step)));
                start = end;
            }
            if adder.pairs.is_empty() {
                break;
            }
            adder.add(&mut self.points);
            step *= 2;
        }
        let mut start = 0;
        self.ends.into_iter().map(move |end| {
            let sum = if end > start { self.points[start] } else { None };
            start = end;
            sum
        })
    }
}

/// In every window, the sum of what each digit's bucket holds times the digit, all windows in step.
fn weigh(buckets: &[Option<Point>], windows: usize, adder: &mut Adder) -> Vec<Option<Point>> {
    // One place each for the sum of the buckets so far, for the sum of those sums, and for the next bucket.
    let mut places: Vec<Option<Point>> = vec![None; 3 * windows];
    let count = buckets.len() / windows.max(1);
    for bucket in (0..=count).rev() {
        adder.pairs.clear();
        for window in 0..windows {
            // The sums first, from what the buckets above gave.
            adder.pairs.push((windows + window, window));
            if bucket > 0 {
                places[2 * windows + window] = buckets[window * count + bucket - 1];
                adder.pairs.push((window, 2 * windows + window));
            }
        }
        adder.add(&mut places);
    }
    places[windows..2 * windows].to_vec()
}

/// Adds pairs of points, each into its first place. A place may be the second of one pair and the first of a later one: all
/// operands are read before anything is written.
#[derive(Debug, Default)]
struct Adder {
    pairs: Vec<(usize, usize)>,
    /// Numerator, denominator and the product of the denominators before, for each pair that needs a division.
    slopes: Vec<Slope>,
}

#[derive(Clone, Copy, Debug)]
struct Slope {
    into: usize,
    left: Point,
    right_x: FieldElement,
    rise: FieldElement,
    run: FieldElement,
    product: FieldElement,
}

impl Adder {
    fn add(&mut self, places: &mut [Option<Point>]) {
        self.slopes.clear();
        let mut product = FieldElement::ONE;
        let mut copies: Vec<(usize, Option<Point>)> = Vec::new();
        for &(into, from) in &self.pairs {
            match (places[into], places[from]) {
                (_, None) => {}
                (None, right) => copies.push((into, right)),
                (Some(left), Some(right)) => match slope(&left, &right) {
                    Some((rise, run)) => {
                        self.slopes.push(Slope { into, left, right_x: right.x, rise, run, product });
                        product *= run;
                    }
                    None => copies.push((into, None)),
                },
            }
        }
        for (into, point) in copies {
            places[into] = point;
        }
        let inverse = Option::<FieldElement>::from(product.invert());
        let mut inverse = inverse.expect("no run is zero, so neither is the product of all");
        for slope in self.slopes.iter().rev() {
            let ratio = slope.rise * (inverse * slope.product);
            inverse *= slope.run;
            let x = (ratio.square() + slope.left.x.negate(1) + slope.right_x.negate(1)).normalize_weak();
            let y = (ratio * (slope.left.x + x.negate(1)) + slope.left.y.negate(1)).normalize_weak();
            places[slope.into] = Some(Point { x, y });
        }
    }
}

/// Rise and run of the line through two points, or of the tangent at one; none when they cancel each other out.
fn slope(left: &Point, right: &Point) -> Option<(FieldElement, FieldElement)> {
    let run = right.x + left.x.negate(1);
    let rise = right.y + left.y.negate(1);
    if !bool::from(run.normalizes_to_zero()) {
        return Some((rise, run));
    }
    if !bool::from(rise.normalizes_to_zero()) {
        return None;
    }
    let square = left.x.square();
    Some((square.double() + square, left.y.double()))
}

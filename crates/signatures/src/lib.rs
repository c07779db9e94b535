//! Many ECDSA signatures over secp256k1, held together against the keys that are said to have made them.
//!
//! Recovering a signer costs two multiplications of a point by a scalar for each signature. Whoever is told the key has
//! only to check an equation, and many equations can be checked as one: a random combination of them holds only if each
//! one does (M. Bellare, J. Garay, T. Rabin, "Fast batch verification for modular exponentiation and digital
//! signatures", 1998), which is one sum of many products and far cheaper than the products alone (N. Pippenger, 1976).
//!
//! For a signature `(r, s)` whose nonce point is `R` (with abscissa `r`, its parity being part of the signature), over
//! the digest `z`, made by the key `Q`: `R = (z/s)·G + (r/s)·Q`. Exactly one `Q` fulfils that, so a key that does is
//! the one that recovery would have found. With random `a` of 128 bits, a false batch passes with a probability
//! of 2^-127 at most. Nothing here is secret, and nothing takes constant time.

mod curve;
mod scalars;

use std::collections::HashMap;

use alloy_primitives::{Address, B256, Signature, keccak256};
use k256::{
    ProjectivePoint, Scalar,
    elliptic_curve::{group::Group as _, ops::MulByGenerator as _},
};
use rand::{CryptoRng, Rng};

use self::{
    curve::{Point, Term},
    scalars::{limbs, scalar},
};

/// Bytes of a public key: both coordinates, big-endian, without the leading 4 of SEC 1.
pub const KEY_BYTES: usize = 64;

/// A public key as somebody states it: not necessarily a point of the curve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct StatedKey(pub [u8; KEY_BYTES]);

impl StatedKey {
    /// The account of this key (Yellow Paper, appendix F).
    #[must_use]
    pub fn address(&self) -> Address {
        Address::from_slice(&keccak256(self.0)[12..])
    }
}

/// That this key made this signature over this digest.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// What was signed.
    pub digest: B256,
    /// The signature, with the parity of its nonce point.
    pub signature: Signature,
    /// Who is said to have made it.
    pub key: StatedKey,
}

/// Whether each of these claims is true; a false one makes it all false. Both forms of a signature are taken: whoever
/// wants only the one with the lower `s` (EIP-2) checks that before. An empty batch is true.
pub fn all_hold(claims: &[Claim], random: &mut (impl Rng + CryptoRng)) -> bool {
    combined(claims, random).is_some_and(|sum| sum.is_identity().into())
}

/// The random combination of all claims, which is the point at infinity if they hold; none when one cannot hold.
fn combined(claims: &[Claim], random: &mut impl Rng) -> Option<ProjectivePoint> {
    let inverses = inverses(claims)?;
    let mut terms = Vec::with_capacity(2 * claims.len());
    let mut keys: HashMap<StatedKey, Scalar> = HashMap::with_capacity(claims.len());
    let mut generator = Scalar::ZERO;
    for (claim, inverse) in claims.iter().zip(inverses) {
        let r = claim.signature.r();
        let nonce = Point::with_abscissa(&r.to_be_bytes(), claim.signature.v())?;
        let weight = random.random::<u128>() | 1 << 127;
        terms.push(Term::short(nonce, weight));
        let share = Scalar::from(weight) * inverse;
        generator -= share * scalars::reduced(&claim.digest.0);
        *keys.entry(claim.key).or_insert(Scalar::ZERO) -= share * scalar(&r.to_be_bytes())?;
    }
    for (key, factor) in keys {
        terms.push(Term::long(Point::stated(&key.0)?, limbs(&factor)));
    }
    Some(curve::sum(&terms)? + ProjectivePoint::mul_by_generator(&generator))
}

/// `1/s` for every claim, with one inversion for all.
fn inverses(claims: &[Claim]) -> Option<Vec<Scalar>> {
    let values: Option<Vec<_>> = claims.iter().map(|claim| scalar(&claim.signature.s().to_be_bytes())).collect();
    let values = values?;
    let mut products = Vec::with_capacity(values.len());
    let mut product = Scalar::ONE;
    for value in &values {
        products.push(product);
        product *= value;
    }
    let mut inverse = Option::<Scalar>::from(product.invert())?;
    for (value, before) in values.iter().zip(&mut products).rev() {
        *before *= inverse;
        inverse *= value;
    }
    Some(products)
}

#[cfg(test)]
mod tests;

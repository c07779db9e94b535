//! Numbers modulo the order of secp256k1.

use alloy_primitives::U256;
use k256::{
    FieldBytes, Scalar, U256 as Uint,
    elliptic_curve::{PrimeField as _, ops::Reduce},
};

/// A number from 1 below the order; none for another one.
pub(crate) fn scalar(bytes: &[u8; 32]) -> Option<Scalar> {
    let found = Option::<Scalar>::from(Scalar::from_repr(FieldBytes::from(*bytes)))?;
    (!bool::from(found.is_zero())).then_some(found)
}

/// A digest as a number modulo the order (SEC 1, 4.1.4).
pub(crate) fn reduced(bytes: &[u8; 32]) -> Scalar {
    <Scalar as Reduce<Uint>>::reduce_bytes(&FieldBytes::from(*bytes))
}

/// The number's limbs, the least significant first.
pub(crate) fn limbs(value: &Scalar) -> [u64; 4] {
    *U256::from_be_bytes::<32>(value.to_repr().into()).as_limbs()
}

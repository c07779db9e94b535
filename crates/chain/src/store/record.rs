//! How headers, transactions and receipts look inside the database. Golden tests pin every byte.

use alloy::{
    consensus::{Header, Sealed, TrieAccount},
    primitives::{Address, B256, Bytes, Log},
    rlp::{Decodable as _, Encodable as _},
};
use alloy_rlp::{RlpDecodable, RlpEncodable};

use super::StoreError;
use crate::transaction::VerifiedTransaction;

/// Hash, size and transaction count precede the encoded header.
const HEADER_PREFIX_BYTES: usize = 32 + 8 + 4;

/// What a transaction did. Blooms are derived, not stored.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct Receipt {
    pub(crate) success: bool,
    pub(crate) gas_used: u64,
    pub(crate) cumulative_gas_used: u64,
    /// The position in the block of the first log.
    pub(crate) first_log: u64,
    pub(crate) logs: Vec<Log>,
}

/// A header with what is asked for along with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StoredHeader {
    pub(crate) header: Sealed<Header>,
    pub(crate) size: u64,
    pub(crate) transaction_count: u32,
}

impl StoredHeader {
    pub(crate) fn encode(header: &Sealed<Header>, size: u64, transaction_count: usize) -> Vec<u8> {
        let count = u32::try_from(transaction_count).expect("the gas limit keeps a block below 2^32 transactions");
        let mut record = Vec::with_capacity(HEADER_PREFIX_BYTES + header.inner().length());
        record.extend_from_slice(header.hash().as_slice());
        record.extend_from_slice(&size.to_be_bytes());
        record.extend_from_slice(&count.to_be_bytes());
        header.inner().encode(&mut record);
        record
    }

    pub(crate) fn decode(record: &[u8]) -> Result<Self, StoreError> {
        let damaged = StoreError::Damaged { what: "header" };
        let Some((prefix, mut rest)) = record.split_at_checked(HEADER_PREFIX_BYTES) else {
            return Err(damaged);
        };
        let Ok(header) = Header::decode(&mut rest) else {
            return Err(damaged);
        };
        Ok(Self {
            header: Sealed::new_unchecked(header, B256::from_slice(&prefix[..32])),
            size: u64::from_be_bytes(prefix[32..40].try_into().expect("eight bytes")),
            transaction_count: u32::from_be_bytes(prefix[40..44].try_into().expect("four bytes")),
        })
    }

    /// Only the hash, without decoding the rest.
    pub(crate) fn decode_hash(record: &[u8]) -> Result<B256, StoreError> {
        record.get(..32).map(B256::from_slice).ok_or(StoreError::Damaged { what: "header" })
    }
}

/// The sender precedes the EIP-2718 encoding, so that no signature is recovered twice.
pub(crate) fn encode_transaction(transaction: &VerifiedTransaction) -> Vec<u8> {
    [transaction.sender().as_slice(), transaction.encoded()].concat()
}

pub(crate) fn decode_transaction(record: &[u8]) -> Result<VerifiedTransaction, StoreError> {
    let damaged = || StoreError::Damaged { what: "transaction" };
    let (sender, encoded) = record.split_at_checked(20).ok_or_else(damaged)?;
    VerifiedTransaction::from_stored(Address::from_slice(sender), Bytes::copy_from_slice(encoded))
        .map_err(|_| damaged())
}

pub(crate) fn decode_receipt(mut record: &[u8]) -> Result<Receipt, StoreError> {
    Receipt::decode(&mut record).map_err(|_| StoreError::Damaged { what: "receipt" })
}

pub(super) fn decode_account(mut record: &[u8]) -> Result<TrieAccount, StoreError> {
    TrieAccount::decode(&mut record).map_err(|_| StoreError::Damaged { what: "account" })
}

#[cfg(test)]
mod tests {
    use alloy::{
        consensus::Sealable as _,
        primitives::{address, hex},
        rlp,
    };
    use proptest::prelude::*;

    use super::*;

    /// The first transaction with a signature in EIP-155's own text.
    const EIP155_EXAMPLE: &str = "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a76400008025a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83";
    const EIP155_SENDER: Address = address!("9d8A62f656a8d1615C1294fd71e9CFb3E4855A4F");

    #[test]
    fn transactions_are_stored_as_sender_and_encoding() {
        let transaction = VerifiedTransaction::decode(hex::decode(EIP155_EXAMPLE).unwrap().into()).unwrap();
        assert_eq!(transaction.sender(), EIP155_SENDER);
        let record = encode_transaction(&transaction);
        assert_eq!(hex::encode(&record), format!("{}{EIP155_EXAMPLE}", hex::encode(EIP155_SENDER)));
        assert_eq!(decode_transaction(&record).unwrap(), transaction);
    }

    #[test]
    fn a_receipt_has_these_bytes() {
        let log = Log::new_unchecked(Address::repeat_byte(1), vec![B256::repeat_byte(2)], Bytes::from_static(&[3, 4]));
        let receipt =
            Receipt { success: true, gas_used: 21_000, cumulative_gas_used: 42_000, first_log: 5, logs: vec![log] };
        let record = rlp::encode(&receipt);
        let expected = format!("f84601825208 82a41005 f83cf83a94{} e1a0{} 820304", "01".repeat(20), "02".repeat(32));
        assert_eq!(hex::encode(&record), expected.replace(' ', ""));
        assert_eq!(decode_receipt(&record).unwrap(), receipt);
    }

    #[test]
    fn a_header_follows_its_hash_size_and_count() {
        let header = Header { number: 7, ..Header::default() }.seal_slow();
        let record = StoredHeader::encode(&header, 600, 3);
        assert_eq!(record[..32], header.hash().0);
        assert_eq!(record[32..44], [0, 0, 0, 0, 0, 0, 2, 88, 0, 0, 0, 3]);
        assert_eq!(record[44..], rlp::encode(header.inner()));
        let decoded = StoredHeader::decode(&record).unwrap();
        assert_eq!(decoded, StoredHeader { header, size: 600, transaction_count: 3 });
        assert_eq!(StoredHeader::decode_hash(&record).unwrap(), decoded.header.hash());
    }

    proptest! {
        /// Damaged records are reported, never a panic.
        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = StoredHeader::decode(&bytes);
            let _ = decode_transaction(&bytes);
            let _ = decode_receipt(&bytes);
            let _ = VerifiedTransaction::decode(bytes.into());
        }

        /// So are records with one flipped byte.
        #[test]
        fn a_flipped_byte_is_survived(position in 0_usize..130, flip in 1_u8..=255) {
            let transaction = VerifiedTransaction::decode(hex::decode(EIP155_EXAMPLE).unwrap().into()).unwrap();
            let mut record = encode_transaction(&transaction);
            let position = position % record.len();
            record[position] ^= flip;
            if let Ok(decoded) = decode_transaction(&record) {
                prop_assert_ne!(decoded, transaction.clone());
            }
            let mut encoded = transaction.encoded().to_vec();
            let position = position % encoded.len();
            encoded[position] ^= flip;
            if let Ok(decoded) = VerifiedTransaction::decode(encoded.into()) {
                prop_assert_ne!(decoded.hash(), transaction.hash());
            }
        }
    }
}

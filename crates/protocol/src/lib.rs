//! Identifiers, units, canonical codecs, signatures, receipts, vouchers and the task life cycle; pure.

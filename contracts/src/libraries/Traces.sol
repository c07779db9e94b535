// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IReceipts} from "../interfaces/IReceipts.sol";
import {Merkle} from "./Merkle.sol";

/// @title The records of a trace: where they stand under a receipt, what their bytes say, which form they must have
/// @notice A window has up to 32 records and two leaves: `salt || token records` and `salt || evidence records`.
/// A token record is an id (u24) and a log-probability (i16, 1/1024 nat), an evidence record four alternatives of the same form
/// and a sketch of eight bytes; all big endian.
library Traces {
    uint32 internal constant WINDOW = 32;
    uint256 internal constant SALT_BYTES = 32;
    uint256 internal constant TOKEN_BYTES = 5;
    uint256 internal constant EVIDENCE_BYTES = 28;
    uint256 internal constant ALTERNATIVES = 4;
    /// @dev Stands for a place without a token.
    uint32 internal constant NO_TOKEN = 0xFFFFFF;
    int16 internal constant NO_LOG_PROBABILITY = type(int16).min;
    uint8 internal constant TIER_A = 3;
    uint8 private constant END_OF_SEQUENCE = 0;
    uint256 private constant SKETCH_MANTISSAS = 8;
    int256 private constant SKETCH_MANTISSA_TOP = 56;
    int256 private constant SKETCH_MANTISSA_MAX = 63;

    error WindowOutOfRange(uint32 window, uint32 windows);
    error PositionOutOfRange(uint32 position, uint32 records);
    error PathInvalid();
    error EvidenceAbsent();
    error StepOutOfRange();

    /// @dev A token with its log-probability.
    struct Token {
        uint32 id;
        int16 logProbability;
    }

    /// @dev A token and evidence record, read.
    struct Record {
        Token chosen;
        Token[ALTERNATIVES] alternatives;
        uint64 sketch;
    }

    /// @dev How many records the receipt's trace has: its tokens, and the end of the sequence where a tier A backend drew it.
    function records(IReceipts.Receipt calldata receipt) internal pure returns (uint256) {
        bool drewEnd = receipt.finish == END_OF_SEQUENCE && receipt.tier == TIER_A;
        return uint256(receipt.outputTokens) + (drewEnd ? 1 : 0);
    }

    /// @notice Reads one record and proves that the receipt commits to it. Whatever the miner did not commit to reverts.
    /// @return wellFormed false when the miner committed to leaves of a wrong length; then there is no record
    function open(IReceipts.Opening calldata opening) internal pure returns (bool wellFormed, Record memory record) {
        uint256 total = records(opening.receipt);
        // At most 2^27 + 1.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint32 windows = uint32((total + WINDOW - 1) / WINDOW);
        if (opening.window >= windows) revert WindowOutOfRange(opening.window, windows);
        bytes32 pair = Merkle.node(Merkle.leaf(opening.tokens), Merkle.leaf(opening.evidence));
        if (!Merkle.verify(opening.receipt.traceRoot, pair, opening.window, windows, opening.path)) {
            revert PathInvalid();
        }

        uint256 rest = total - uint256(opening.window) * WINDOW;
        uint256 length = rest < WINDOW ? rest : WINDOW;
        // forge-lint: disable-next-line(unsafe-typecast)
        if (opening.position >= length) revert PositionOutOfRange(opening.position, uint32(length));
        if (opening.tokens.length != SALT_BYTES + length * TOKEN_BYTES) return (false, record);
        // A backend that gives no evidence commits to the salt alone.
        if (opening.evidence.length == SALT_BYTES) revert EvidenceAbsent();
        if (opening.evidence.length != SALT_BYTES + length * EVIDENCE_BYTES) return (false, record);
        return (true, read(opening.tokens, opening.evidence, opening.position));
    }

    /// @dev The index in the task of the record that is opened: the sampler's step.
    function step(IReceipts.Opening calldata opening) internal pure returns (uint32) {
        uint256 index = uint256(opening.receipt.firstToken) + uint256(opening.window) * WINDOW + opening.position;
        if (index > type(uint32).max) revert StepOutOfRange();
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32(index);
    }

    /// @dev Whether the record is the only encoding of what it says.
    function isCanonical(Record memory record) internal pure returns (bool) {
        if (record.chosen.logProbability > 0) return false;
        int256 previous = 0;
        bool ended = false;
        for (uint256 i; i < ALTERNATIVES; ++i) {
            Token memory token = record.alternatives[i];
            if (token.id == NO_TOKEN) {
                if (token.logProbability != NO_LOG_PROBABILITY) return false;
                ended = true;
                continue;
            }
            if (ended || token.logProbability > previous || token.id == record.chosen.id) return false;
            for (uint256 j; j < i; ++j) {
                if (record.alternatives[j].id == token.id) return false;
            }
            previous = token.logProbability;
        }
        return isCanonicalSketch(record.sketch);
    }

    /// @dev Bits 63 to 56 are the exponent, then eight mantissas of seven bits in two's complement.
    function isCanonicalSketch(uint64 sketch) internal pure returns (bool) {
        int256 largest = 0;
        for (uint256 k; k < SKETCH_MANTISSAS; ++k) {
            // Seven bits.
            // forge-lint: disable-next-line(unsafe-typecast)
            int256 mantissa = int256(uint256(sketch >> (7 * k)) & 0x7f);
            if (mantissa > SKETCH_MANTISSA_MAX) mantissa = 128 - mantissa;
            if (mantissa > largest) largest = mantissa;
        }
        uint256 exponent = sketch >> 56;
        if (exponent == 0) return largest == 0;
        if (largest > SKETCH_MANTISSA_MAX) return false;
        return exponent == 1 ? largest > 0 : largest >= SKETCH_MANTISSA_TOP;
    }

    /// @dev Lengths were checked by `open`.
    function read(bytes calldata tokens, bytes calldata evidence, uint256 position)
        internal
        pure
        returns (Record memory record)
    {
        record.chosen = _token(tokens, SALT_BYTES + position * TOKEN_BYTES);
        uint256 start = SALT_BYTES + position * EVIDENCE_BYTES;
        for (uint256 i; i < ALTERNATIVES; ++i) {
            record.alternatives[i] = _token(evidence, start + i * TOKEN_BYTES);
        }
        uint256 sketchAt = start + ALTERNATIVES * TOKEN_BYTES;
        record.sketch = uint64(bytes8(evidence[sketchAt:sketchAt + 8]));
    }

    function _token(bytes calldata content, uint256 offset) private pure returns (Token memory) {
        uint40 bits = uint40(bytes5(content[offset:offset + TOKEN_BYTES]));
        // The upper 24 bits and the lower 16.
        // forge-lint: disable-next-line(unsafe-typecast)
        return Token({id: uint32(bits >> 16), logProbability: int16(uint16(bits))});
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ISessions} from "../interfaces/ISessions.sol";
import {SessionId} from "../types/SessionId.sol";

/// @title EIP-712 struct hashes of everything that is signed about a session
library Messages {
    bytes32 internal constant VOUCHER_TYPEHASH = keccak256(
        "Voucher(bytes32 session,address miner,uint128 cumulativeAmount,uint64 cumulativeInputTokens,uint64 cumulativeOutputTokens,bytes32 receiptsRoot)"
    );
    bytes32 internal constant COUNTERSIGNATURE_TYPEHASH =
        keccak256("Countersignature(bytes32 voucherHash,bytes32 session,uint64 sequence,uint128 sessionTotal)");
    bytes32 internal constant CLOSE_TYPEHASH =
        keccak256("Close(bytes32 session,uint64 finalSequence,uint128 finalTotal)");

    function hashVoucher(ISessions.Voucher calldata voucher) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                VOUCHER_TYPEHASH,
                voucher.session,
                voucher.miner,
                voucher.cumulativeAmount,
                voucher.cumulativeInputTokens,
                voucher.cumulativeOutputTokens,
                voucher.receiptsRoot
            )
        );
    }

    function hashCountersignature(bytes32 voucherHash, SessionId session, uint64 sequence, uint128 sessionTotal)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(COUNTERSIGNATURE_TYPEHASH, voucherHash, session, sequence, sessionTotal));
    }

    function hashClose(SessionId session, uint64 finalSequence, uint128 finalTotal) internal pure returns (bytes32) {
        return keccak256(abi.encode(CLOSE_TYPEHASH, session, finalSequence, finalTotal));
    }
}

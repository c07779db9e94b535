// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {MessageHashUtils} from "@openzeppelin/contracts/utils/cryptography/MessageHashUtils.sol";
import {Bls} from "./Bls.sol";
import {Certificates} from "./Certificates.sol";

/// @title Proof that a set of validators decided a block, with one signature for all (docs/spec/settlement.md, section 4.7)
/// @notice What a certificate is, but for the signatures. Whether the keys are those of the signers, `CheckpointKeys` says.
library Aggregates {
    /// @param validators the set, in its order
    /// @param powers of the set, in its order
    /// @param keyed bit i is set when the key of validator i is in the sum that stands for these validators
    /// @param signers bit i is set when validator i signed
    /// @param key the sum of the signers' keys
    /// @param absentKeys the keys of those who are keyed and did not sign, in the set's order
    /// @param signature the sum of the signers' signatures
    struct Aggregate {
        address[] validators;
        uint64[] powers;
        uint256 keyed;
        uint256 signers;
        bytes key;
        bytes absentKeys;
        bytes signature;
    }

    bytes32 private constant DOMAIN_TYPEHASH =
        keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)");
    bytes32 private constant CHECKPOINT_TYPEHASH =
        keccak256("Checkpoint(uint256 chainId,uint64 height,bytes32 blockHash,bytes32 setHash)");

    /// @dev What headers commit to.
    function setHash(Aggregate calldata aggregate) internal pure returns (bytes32) {
        return keccak256(abi.encode(aggregate.validators, aggregate.powers));
    }

    /// @dev What validators sign for this contract on this chain: that a set decided a block of their own.
    /// @param chainId of the chain whose block it is
    function digest(uint256 chainId, uint64 height, bytes32 blockHash, bytes32 set) internal view returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                DOMAIN_TYPEHASH, keccak256("Cortensor Checkpoints"), keccak256("1"), block.chainid, address(this)
            )
        );
        return MessageHashUtils.toTypedDataHash(
            domain, keccak256(abi.encode(CHECKPOINT_TYPEHASH, chainId, height, blockHash, set))
        );
    }

    /// @dev Refuses unless the signers have more than two thirds of all power.
    /// @return absent who is keyed and did not sign, in the set's order
    function requireQuorum(Aggregate calldata aggregate) internal pure returns (address[] memory absent) {
        uint64[] calldata powers = aggregate.powers;
        (uint256 count, uint256 signers, uint256 keyed) = (powers.length, aggregate.signers, aggregate.keyed);
        if (
            aggregate.validators.length != count || count > 256 || signers & ~keyed != 0
                || aggregate.absentKeys.length % Bls.KEY_BYTES != 0
        ) revert Certificates.CertificateMalformed();
        absent = new address[](aggregate.absentKeys.length / Bls.KEY_BYTES);
        (uint256 signed, uint256 total, uint256 missing) = (0, 0, 0);
        for (uint256 i; i < count; ++i) {
            total += powers[i];
            if (signers & 1 != 0) {
                signed += powers[i];
            } else if (keyed & 1 != 0) {
                if (missing == absent.length) revert Certificates.CertificateMalformed();
                absent[missing++] = aggregate.validators[i];
            }
            (signers, keyed) = (signers >> 1, keyed >> 1);
        }
        if (keyed != 0 || missing != absent.length) revert Certificates.CertificateMalformed();
        if (signed * 3 <= total * 2) revert Certificates.QuorumMissing(signed, total);
    }
}

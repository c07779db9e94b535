// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Votes} from "./Votes.sol";

/// @title Proof that a set of validators decided a block (docs/spec/settlement.md, section 3)
/// @notice A light client for any chain: it knows the hash of the set that it trusts, and is given the set with the signatures.
library Certificates {
    /// @param round of the precommits
    /// @param validators the set, in its order
    /// @param powers of the set, in its order
    /// @param signers bit i is set when validator i signed
    /// @param signatures 65 bytes (r, s, v) for each bit that is set, from the lowest up, and nothing else
    struct Certificate {
        uint32 round;
        address[] validators;
        uint64[] powers;
        uint256 signers;
        bytes signatures;
    }

    uint256 internal constant SIGNATURE_BYTES = 65;

    error CertificateMalformed();
    error SignerInvalid(uint256 index);
    error QuorumMissing(uint256 signed, uint256 total);

    /// @dev What headers commit to.
    function setHash(Certificate calldata certificate) internal pure returns (bytes32) {
        return keccak256(abi.encode(certificate.validators, certificate.powers));
    }

    /// @dev Refuses unless members with more than two thirds of all power signed the precommit of the block.
    /// @param chainId of the chain whose block it is
    function requireDecided(Certificate calldata certificate, uint256 chainId, uint64 height, bytes32 blockHash)
        internal
        pure
    {
        Votes.Vote memory vote =
            Votes.Vote({kind: Votes.PRECOMMIT, height: height, round: certificate.round, blockHash: blockHash});
        requireQuorum(certificate, Votes.digest(vote, chainId));
    }

    /// @dev Refuses unless members with more than two thirds of all power signed `digest`.
    function requireQuorum(Certificate calldata certificate, bytes32 digest) internal pure {
        uint64[] calldata powers = certificate.powers;
        uint256 count = powers.length;
        if (certificate.validators.length != count || count > 256) revert CertificateMalformed();
        (uint256 signed, uint256 total, uint256 used, uint256 signers) = (0, 0, 0, certificate.signers);
        for (uint256 i; i < count; ++i) {
            uint256 power = powers[i];
            total += power;
            if (signers & 1 != 0) {
                _requireSigner(certificate, i, used, digest);
                used += SIGNATURE_BYTES;
                signed += power;
            }
            signers >>= 1;
        }
        if (signers != 0 || used != certificate.signatures.length) revert CertificateMalformed();
        if (signed * 3 <= total * 2) revert QuorumMissing(signed, total);
    }

    function _requireSigner(Certificate calldata certificate, uint256 index, uint256 offset, bytes32 digest)
        private
        pure
    {
        if (offset + SIGNATURE_BYTES > certificate.signatures.length) revert CertificateMalformed();
        bytes calldata signature = certificate.signatures[offset:offset + SIGNATURE_BYTES];
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(digest, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != certificate.validators[index]) {
            revert SignerInvalid(index);
        }
    }
}

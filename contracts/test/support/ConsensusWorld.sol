// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Equivocations} from "../../src/Equivocations.sol";
import {Validators} from "../../src/Validators.sol";
import {IEquivocations} from "../../src/interfaces/IEquivocations.sol";
import {INodeRegistry} from "../../src/interfaces/INodeRegistry.sol";
import {IScores} from "../../src/interfaces/IScores.sol";
import {IValidators} from "../../src/interfaces/IValidators.sol";
import {Votes} from "../../src/libraries/Votes.sol";
import {VALIDATOR} from "../../src/types/Roles.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {vm} from "./Vm.sol";

/// @dev The world with validators: four that the chain started with, and operators who join.
abstract contract ConsensusWorld is AuditWorld {
    uint256 internal constant BOOTSTRAP_KEYS = 0xF000;
    uint256 internal constant OPERATOR_KEYS = 0xF100;
    uint256 internal constant CONSENSUS_KEYS = 0xF800;
    uint32 internal constant EPOCH_BLOCKS = 10;
    uint128 internal constant VALIDATOR_STAKE = 1000e18;
    uint64 internal constant SUNSET = 50;
    uint64 internal constant TOTAL_POWER = 1_000_000_000;

    Validators internal validators;
    Equivocations internal equivocations;

    function deployConsensusWorld() internal {
        deployAuditWorld(0);
        vm.roll(1);
        (address[] memory keys, uint64[] memory powers) = equalSet(BOOTSTRAP_KEYS, 4);
        validators = new Validators(registry, scores, GOVERNANCE, EPOCH_BLOCKS, keys, powers, validatorParameters());
        equivocations = new Equivocations(token, registry, validators, court, GOVERNANCE, equivocationParameters());
        vm.startPrank(GOVERNANCE);
        registry.setMinimumStake(VALIDATOR, VALIDATOR_STAKE / 10);
        registry.setSlasher(address(equivocations), true);
        validators.setEquivocations(address(equivocations));
        vm.stopPrank();
    }

    function validatorParameters() internal pure returns (IValidators.Parameters memory) {
        return IValidators.Parameters({
            sunsetEpoch: SUNSET, bootstrapStake: 4 * VALIDATOR_STAKE, absentEpochs: 0, jailEpochs: 2
        });
    }

    function equivocationParameters() internal pure returns (IEquivocations.Parameters memory) {
        return IEquivocations.Parameters({slashBps: 5000, burnBps: 4000, reporterBps: 1000});
    }

    /// @dev An operator that is its own owner, with the validator's role.
    function addOperator(uint256 index, uint128 stake) internal returns (address operator) {
        uint256 key = OPERATOR_KEYS + index;
        operator = vm.addr(key);
        fund(operator, stake);
        INodeRegistry.OperatorConsent memory none;
        vm.prank(operator);
        registry.register(registration(key, VALIDATOR, operator, stake), none);
    }

    function addValidator(uint256 index, uint128 stake) internal returns (address key) {
        address operator = addOperator(index, stake);
        return joinWith(operator, CONSENSUS_KEYS + index);
    }

    function joinWith(address operator, uint256 key) internal returns (address) {
        bytes memory signature = signJoin(operator, key, block.timestamp);
        vm.prank(operator);
        validators.join(operator, vm.addr(key), block.timestamp, signature);
        return vm.addr(key);
    }

    function signJoin(address operator, uint256 key, uint256 deadline) internal view returns (bytes memory) {
        bytes32 structHash =
            keccak256(abi.encode(keccak256("Key(address operator,uint256 deadline)"), operator, deadline));
        return signDigest(key, typedDigest("Cortensor Validators", address(validators), block.chainid, structHash));
    }

    /// @dev An audit that found nothing and stands for so many tokens.
    function served(address operator, uint64 tokens) internal {
        vm.prank(address(audits));
        scores.record(operator, IScores.Weighed(-1, -1), tokens, false, false);
    }

    /// @dev Fixes the next epoch's set and goes there.
    function advanceEpoch() internal {
        validators.advance();
        vm.roll((validators.currentEpoch() + 1) * EPOCH_BLOCKS);
    }

    function advanceEpochs(uint256 count) internal {
        for (uint256 i; i < count; ++i) {
            advanceEpoch();
        }
    }

    function powerOf(address key) internal view returns (uint64) {
        (address[] memory keys, uint64[] memory powers) = validators.currentSet();
        for (uint256 i; i < keys.length; ++i) {
            if (keys[i] == key) return powers[i];
        }
        return 0;
    }

    /// @dev `count` validators with equal powers, sorted by address; the first ones have what does not divide.
    function equalSet(uint256 firstKey, uint256 count)
        internal
        pure
        returns (address[] memory keys, uint64[] memory powers)
    {
        (keys,) = sortedKeys(firstKey, count);
        powers = new uint64[](count);
        for (uint256 i; i < count; ++i) {
            powers[i] = uint64(TOTAL_POWER / count + (i < TOTAL_POWER % count ? 1 : 0));
        }
    }

    /// @dev The addresses of consecutive private keys in ascending order, each with its private key.
    function sortedKeys(uint256 firstKey, uint256 count)
        internal
        pure
        returns (address[] memory keys, uint256[] memory privateKeys)
    {
        (keys, privateKeys) = (new address[](count), new uint256[](count));
        for (uint256 i; i < count; ++i) {
            address key = vm.addr(firstKey + i);
            uint256 place = i;
            for (; place > 0 && keys[place - 1] > key; --place) {
                (keys[place], privateKeys[place]) = (keys[place - 1], privateKeys[place - 1]);
            }
            (keys[place], privateKeys[place]) = (key, firstKey + i);
        }
    }

    // What validators sign, with the type strings written out again.

    function consensusDigest(bytes32 structHash, uint256 chain) internal pure returns (bytes32) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId)"),
                keccak256("Cortensor Consensus"),
                keccak256("1"),
                chain
            )
        );
        return keccak256(abi.encodePacked(hex"1901", domain, structHash));
    }

    function voteDigest(Votes.Vote memory vote, uint256 chain) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256("Vote(uint8 kind,uint64 height,uint32 round,bytes32 blockHash)");
        return consensusDigest(keccak256(abi.encode(typeHash, vote)), chain);
    }

    function proposalDigest(Votes.Proposal memory proposal, uint256 chain) internal pure returns (bytes32) {
        bytes32 typeHash = keccak256("Proposal(uint64 height,uint32 round,int64 validRound,bytes32 blockHash)");
        return consensusDigest(keccak256(abi.encode(typeHash, proposal)), chain);
    }

    function foreignDigest(uint256 foreign, uint64 number, bytes32 hash, uint256 chain)
        internal
        pure
        returns (bytes32)
    {
        bytes32 typeHash = keccak256("ForeignBlock(uint256 chainId,uint64 number,bytes32 blockHash)");
        return consensusDigest(keccak256(abi.encode(typeHash, foreign, number, hash)), chain);
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {CheckpointKeys} from "../src/CheckpointKeys.sol";
import {Checkpoints} from "../src/Checkpoints.sol";
import {ICheckpointKeys} from "../src/interfaces/ICheckpointKeys.sol";
import {ICheckpoints} from "../src/interfaces/ICheckpoints.sol";
import {Aggregates} from "../src/libraries/Aggregates.sol";
import {Bls} from "../src/libraries/Bls.sol";
import {Certificates} from "../src/libraries/Certificates.sol";
import {AggregateWorld} from "./support/AggregateWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev The contracts need the rules of Cancun, the precompiles those of Prague.
/// forge-config: default.evm_version = "prague"
/// forge-config: ci.evm_version = "prague"
contract CheckpointKeysTest is AggregateWorld {
    uint256 private constant NEXT_KEYS = 0xF500;
    uint64 private constant LAST = EPOCH_BLOCKS - 1;
    uint256 private constant ALL = 15;

    function setUp() public {
        deployLaneWorld();
    }

    // --- registering ---

    function test_aKeyIsRegisteredOnceByItsValidatorWhoHasItsSecret() public {
        register(SET_KEYS);
        address[] memory validators_ = new address[](2);
        (validators_[0], validators_[1]) = (vm.addr(SET_KEYS), vm.addr(SET_KEYS + 1));
        bytes32[] memory hashes = checkpointKeys.keyHashesOf(validators_);
        vm.assertEq(hashes[0], keccak256(keyOf(secretOf(SET_KEYS))), "known");
        vm.assertEq(hashes[1], bytes32(0), "unknown");
        expectUnregistered(
            SET_KEYS, secretOf(1), abi.encodeWithSelector(ICheckpointKeys.AlreadyRegistered.selector, vm.addr(SET_KEYS))
        );
    }

    /// @dev The attack that possession is for: a key made of another's, with which one signs for both.
    function test_aRogueKeyIsRefused() public {
        register(SET_KEYS);
        address rogue = vm.addr(SET_KEYS + 1);
        uint256 secret = secretOf(SET_KEYS + 1);
        // own − other's: the two add up to a key whose secret the rogue has.
        bytes memory key = Bls.add(keyOf(secret), keyOf(ORDER - secretOf(SET_KEYS)));
        bytes32 digest = registrationOf(rogue, key);
        bytes memory consent = signDigest(SET_KEYS + 1, digest);
        bytes memory possession = signBls(secret, digest, TO_PROVE);
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.PossessionUnproven.selector, rogue));
        checkpointKeys.register(rogue, key, possession, consent);
        // A signature of a checkpoint proves no possession, whatever it is over.
        key = keyOf(secret);
        digest = registrationOf(rogue, key);
        consent = signDigest(SET_KEYS + 1, digest);
        possession = signBls(secret, digest, TO_SIGN);
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.PossessionUnproven.selector, rogue));
        checkpointKeys.register(rogue, key, possession, consent);
    }

    function test_nobodyElseChoosesAValidatorsKey() public {
        address validator = vm.addr(SET_KEYS);
        bytes memory key = keyOf(7);
        bytes32 digest = registrationOf(validator, key);
        bytes memory possession = signBls(7, digest, TO_PROVE);
        bytes memory consent = signDigest(SET_KEYS + 1, digest);
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.ConsentInvalid.selector, validator));
        checkpointKeys.register(validator, key, possession, consent);
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.ConsentInvalid.selector, validator));
        checkpointKeys.register(validator, key, possession, "");
    }

    function test_aRegistrationIsGoodForOneContractOnOneChain() public {
        address validator = vm.addr(SET_KEYS);
        bytes memory key = keyOf(7);
        bytes32 digest = registrationOf(validator, key);
        (bytes memory possession, bytes memory consent) = (signBls(7, digest, TO_PROVE), signDigest(SET_KEYS, digest));
        CheckpointKeys another = new CheckpointKeys();
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.ConsentInvalid.selector, validator));
        another.register(validator, key, possession, consent);
        uint256 home = block.chainid;
        vm.chainId(home + 1);
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.ConsentInvalid.selector, validator));
        checkpointKeys.register(validator, key, possession, consent);
        vm.chainId(home);
        checkpointKeys.register(validator, key, possession, consent);
    }

    function test_pointsThatAreNoKeysAreRefused() public {
        bytes memory nothing = new bytes(256);
        expectRefusedKey(nothing, new bytes(128), abi.encodeWithSelector(Bls.KeyInfinite.selector));
        expectRefusedKey(
            STRAY_KEY, new bytes(128), abi.encodeWithSelector(Bls.PrecompileFailed.selector, address(0x0f))
        );
        expectRefusedKey(
            GENERATOR, STRAY_SIGNATURE, abi.encodeWithSelector(Bls.PrecompileFailed.selector, address(0x0f))
        );
        expectRefusedKey(new bytes(255), new bytes(128), abi.encodeWithSelector(Bls.PointMalformed.selector));
        expectRefusedKey(GENERATOR, new bytes(96), abi.encodeWithSelector(Bls.PointMalformed.selector));
        bytes memory off = bytes.concat(GENERATOR);
        off[255] ^= 0x01;
        expectRefusedKey(off, new bytes(128), abi.encodeWithSelector(Bls.PrecompileFailed.selector, address(0x0f)));
    }

    // --- adding up ---

    function test_whoHasNoKeyIsLeftOutUntilItHasOne() public {
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(SET_KEYS, 4);
        vm.expectRevert(ICheckpointKeys.NobodyKeyed.selector);
        checkpointKeys.aggregate(validators_, "");
        keySet(SET_KEYS, 4, 7);
        bytes32 members = keccak256(abi.encodePacked(validators_));
        bytes memory sum = keyOf(sumOfSecrets(privateKeys, 7));
        vm.assertEq(checkpointKeys.sumOf(members), keccak256(abi.encodePacked(uint256(7), sum)), "three of four");
        // Three sign, and are enough; the fourth cannot be counted.
        bytes memory header = plainHeader(3);
        Aggregates.Aggregate memory three = aggregateFor(header, 3, SET_KEYS, 4, 7);
        (three.keyed, three.absentKeys) = (7, "");
        checkpoints.submitAggregated(header, three);
        register(privateKeys[3]);
        bytes memory keys = keysOf(privateKeys, 7);
        vm.expectRevert(ICheckpointKeys.KeysMalformed.selector);
        checkpointKeys.aggregate(validators_, keys);
        checkpointKeys.aggregate(validators_, keysOf(privateKeys, ALL));
        // The old sum is not known any more.
        header = plainHeader(4);
        three = aggregateFor(header, 4, SET_KEYS, 4, 7);
        Aggregates.Aggregate memory old = aggregateFor(header, 4, SET_KEYS, 4, 7);
        (old.keyed, old.absentKeys) = (7, "");
        expectRefused(header, old, abi.encodeWithSelector(ICheckpointKeys.SumMismatch.selector, members));
        checkpoints.submitAggregated(header, three);
    }

    function test_onlyRegisteredKeysAddUp() public {
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(SET_KEYS, 4);
        keySet(SET_KEYS, 4, ALL);
        bytes memory keys = bytes.concat(keysOf(privateKeys, 7), keyOf(7));
        vm.expectRevert(abi.encodeWithSelector(ICheckpointKeys.KeyMismatch.selector, validators_[3]));
        checkpointKeys.aggregate(validators_, keys);
        keys = bytes.concat(keysOf(privateKeys, ALL), keyOf(7));
        vm.expectRevert(ICheckpointKeys.KeysMalformed.selector);
        checkpointKeys.aggregate(validators_, keys);
        vm.expectRevert(ICheckpointKeys.KeysMalformed.selector);
        checkpointKeys.aggregate(new address[](257), "");
    }

    // --- checkpoints ---

    function test_acceptsWhatMoreThanTwoThirdsSigned() public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        checkpoints.submitAggregated(header, aggregateFor(header, 3, SET_KEYS, 4, ALL));
        vm.assertEq(checkpoints.blockHashOf(3), keccak256(header), "all");
        header = plainHeader(5);
        checkpoints.submitAggregated(header, aggregateFor(header, 5, SET_KEYS, 4, 13));
        vm.assertEq(checkpoints.blockHashOf(5), keccak256(header), "one is absent");
        // Either kind of proof goes on from the other, into the next epoch.
        header = headerOf(LAST, keccak256("state"), setHash(NEXT_KEYS, 5), uint64(block.timestamp));
        checkpoints.submitAggregated(header, aggregateFor(header, LAST, SET_KEYS, 4, 14));
        vm.assertEq(checkpoints.trustOf(1).setHash, setHash(NEXT_KEYS, 5), "the next set");
        header = headerOf(EPOCH_BLOCKS, keccak256("s"), setHash(NEXT_KEYS, 5), uint64(block.timestamp));
        checkpoints.submit(header, certify(header, EPOCH_BLOCKS, NEXT_KEYS, 5, 4));
        keySet(NEXT_KEYS, 5, 31);
        header = headerOf(EPOCH_BLOCKS + 1, keccak256("s"), setHash(NEXT_KEYS, 5), uint64(block.timestamp));
        checkpoints.submitAggregated(header, aggregateFor(header, EPOCH_BLOCKS + 1, NEXT_KEYS, 5, 23));
        vm.assertEq(checkpoints.blockHashOf(EPOCH_BLOCKS + 1), keccak256(header), "the next epoch");
    }

    function test_twoThirdsAreNotEnoughAndNobodyIsNothing() public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        Aggregates.Aggregate memory half = aggregateFor(header, 3, SET_KEYS, 4, 5);
        expectRefused(
            header, half, abi.encodeWithSelector(Certificates.QuorumMissing.selector, 500_000_000, 1_000_000_000)
        );
        half = aggregateFor(header, 3, SET_KEYS, 4, 0);
        expectRefused(header, half, abi.encodeWithSelector(Certificates.QuorumMissing.selector, 0, 1_000_000_000));
    }

    function test_refusesWhatWasSignedForSomethingElse() public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        (bytes32 hash, bytes32 set, address where) = (keccak256(header), setHash(SET_KEYS, 4), address(checkpoints));
        uint256 chain = block.chainid;
        expectUnsigned(header, checkpointOf(chain + 1, where, chain, 3, hash, set)); // another chain's block
        expectUnsigned(header, checkpointOf(chain, where, chain + 1, 3, hash, set)); // on another chain
        expectUnsigned(header, checkpointOf(chain, address(foreign), chain, 3, hash, set)); // another contract
        expectUnsigned(header, checkpointOf(chain, where, chain, 4, hash, set)); // another height
        expectUnsigned(header, checkpointOf(chain, where, chain, 3, keccak256("other"), set)); // another block
        expectUnsigned(header, checkpointOf(chain, where, chain, 3, hash, setHash(NEXT_KEYS, 4))); // another set
        vm.assertEq(checkpoints.checkpointDigest(3, hash, set), digestOf(header, 3, SET_KEYS, 4), "digest");
        checkpoints.submitAggregated(header, aggregateFor(header, 3, SET_KEYS, 4, ALL));
    }

    /// @dev A possession, although over the same digest, is no checkpoint.
    function test_refusesASignatureUnderAnotherTag() public {
        keySet(SET_KEYS, 4, ALL);
        (, uint256[] memory privateKeys) = sortedKeys(SET_KEYS, 4);
        bytes memory header = plainHeader(3);
        Aggregates.Aggregate memory aggregate = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        bytes32 digest = digestOf(header, 3, SET_KEYS, 4);
        aggregate.signature = signBls(sumOfSecrets(privateKeys, ALL), digest, TO_PROVE);
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpointKeys.SignatureInvalid.selector));
    }

    function test_refusesSetsThatAreNotTrusted() public {
        keySet(SET_KEYS, 4, ALL);
        keySet(NEXT_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        Aggregates.Aggregate memory aggregate = aggregateFor(header, 3, NEXT_KEYS, 4, ALL);
        (bytes32 given, bytes32 trusted) = (setHash(NEXT_KEYS, 4), setHash(SET_KEYS, 4));
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpoints.SetMismatch.selector, given, trusted));
        header = plainHeader(EPOCH_BLOCKS);
        aggregate = aggregateFor(header, EPOCH_BLOCKS, SET_KEYS, 4, ALL);
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpoints.EpochUntrusted.selector, uint64(1)));
        header = plainHeader(3);
        aggregate = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        uint256 until = block.timestamp + TRUST;
        vm.warp(until + 1);
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpoints.TrustExpired.selector, uint64(0), until));
        vm.warp(until);
        checkpoints.submitAggregated(header, aggregate);
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpoints.NotNewer.selector, uint64(3), uint64(3)));
    }

    function test_whoIsCountedHasSigned() public {
        keySet(SET_KEYS, 4, ALL);
        (address[] memory validators_,) = sortedKeys(SET_KEYS, 4);
        bytes memory mismatch =
            abi.encodeWithSelector(ICheckpointKeys.SumMismatch.selector, keccak256(abi.encodePacked(validators_)));
        bytes memory malformed = abi.encodeWithSelector(Certificates.CertificateMalformed.selector);
        bytes memory header = plainHeader(3);
        // Three signed, four are said to have.
        Aggregates.Aggregate memory bad = aggregateFor(header, 3, SET_KEYS, 4, 7);
        (bad.signers, bad.absentKeys) = (ALL, "");
        expectRefused(header, bad, mismatch);
        // Four are said to be absent with nobody's keys, or with too few.
        bad = aggregateFor(header, 3, SET_KEYS, 4, 7);
        bad.absentKeys = "";
        expectRefused(header, bad, malformed);
        bad.absentKeys = keyOf(7);
        expectRefused(header, bad, abi.encodeWithSelector(ICheckpointKeys.KeyMismatch.selector, validators_[3]));
        bad.absentKeys = new bytes(512);
        expectRefused(header, bad, malformed);
        bad.absentKeys = new bytes(255);
        expectRefused(header, bad, malformed);
        // One who is not keyed signed; somebody beyond the set is keyed, or signed.
        bad = aggregateFor(header, 3, SET_KEYS, 4, 7);
        bad.keyed = 3;
        expectRefused(header, bad, malformed);
        bad = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        bad.keyed |= 1 << 4;
        expectRefused(header, bad, malformed);
        bad.signers |= 1 << 4;
        expectRefused(header, bad, malformed);
        bad = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        bad.validators = new address[](3);
        (bytes32 given, bytes32 trusted) = (keccak256(abi.encode(bad.validators, bad.powers)), setHash(SET_KEYS, 4));
        expectRefused(header, bad, abi.encodeWithSelector(ICheckpoints.SetMismatch.selector, given, trusted));
    }

    function test_pointsThatWereNotSignedAreRefused() public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        bytes memory pairing = abi.encodeWithSelector(Bls.PrecompileFailed.selector, address(0x0f));
        Aggregates.Aggregate memory bad = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        bad.signature = new bytes(128);
        expectRefused(header, bad, abi.encodeWithSelector(ICheckpointKeys.SignatureInvalid.selector));
        bad.signature = STRAY_SIGNATURE;
        expectRefused(header, bad, pairing);
        // A point of no subgroup hidden in a signature.
        bad = aggregateFor(header, 3, SET_KEYS, 4, ALL);
        bad.signature = call(address(0x0b), bytes.concat(bad.signature, STRAY_SIGNATURE));
        expectRefused(header, bad, pairing);
        // What the signers' key lacks cannot be put among the absent: those have to be registered.
        bad = aggregateFor(header, 3, SET_KEYS, 4, 7);
        bad.key = Bls.add(bad.key, STRAY_KEY);
        (address[] memory validators_,) = sortedKeys(SET_KEYS, 4);
        bytes32 members = keccak256(abi.encodePacked(validators_));
        expectRefused(header, bad, abi.encodeWithSelector(ICheckpointKeys.SumMismatch.selector, members));
    }

    /// @dev Two validators of one owner whose keys cancel out: nobody signs for the sum of nothing.
    function test_keysThatCancelOutSignNothing() public {
        uint256 first = NEXT_KEYS;
        bytes32 set = setHash(first, 2);
        bytes memory header = headerOf(LAST, keccak256("state"), set, uint64(block.timestamp));
        submit(header, LAST);
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(first, 2);
        bytes memory keys;
        for (uint256 i; i < 2; ++i) {
            uint256 secret = i == 0 ? 7 : ORDER - 7;
            bytes32 digest = registrationOf(validators_[i], keyOf(secret));
            bytes memory consent = signDigest(privateKeys[i], digest);
            checkpointKeys.register(validators_[i], keyOf(secret), signBls(secret, digest, TO_PROVE), consent);
            keys = bytes.concat(keys, keyOf(secret));
        }
        checkpointKeys.aggregate(validators_, keys);
        header = headerOf(EPOCH_BLOCKS, keccak256("s"), set, uint64(block.timestamp));
        Aggregates.Aggregate memory none = aggregateFor(header, EPOCH_BLOCKS, first, 2, 3);
        (none.key, none.signature) = (new bytes(256), new bytes(128));
        expectRefused(header, none, abi.encodeWithSelector(Bls.KeyInfinite.selector));
    }

    function test_aForkEndsTheEraWhateverProvesIt() public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory a = plainHeader(6);
        bytes memory b = headerOf(6, keccak256("another"), setHash(SET_KEYS, 4), uint64(block.timestamp));
        Aggregates.Aggregate memory ofA = aggregateFor(a, 6, SET_KEYS, 4, 7);
        Aggregates.Aggregate memory ofB = aggregateFor(b, 6, SET_KEYS, 4, 14);
        vm.expectRevert(ICheckpoints.NoFork.selector);
        checkpoints.reportAggregatedFork(a, ofA, a, ofA);
        vm.expectRevert(ICheckpointKeys.SignatureInvalid.selector);
        checkpoints.reportAggregatedFork(a, ofA, b, ofA);
        Certificates.Certificate memory certificate = certify(a, 6, SET_KEYS, 4, 3);
        vm.expectRevert(ICheckpoints.NoFork.selector);
        checkpoints.reportMixedFork(a, certificate, a, ofA);
        vm.expectRevert(ICheckpointKeys.SignatureInvalid.selector);
        checkpoints.reportMixedFork(a, certificate, b, ofA);
        checkpoints.reportAggregatedFork(a, ofA, b, ofB);
        vm.assertEq(checkpoints.era(), 1, "the next era");
        vm.prank(GOVERNANCE);
        checkpoints.anchor(plainHeader(5));
        checkpoints.reportMixedFork(a, certificate, b, ofB);
        vm.assertEq(checkpoints.era(), 2, "and the next");
    }

    /// @dev Whoever has a key and whoever signs: accepted exactly when the signers have more than two thirds of the power.
    function testFuzz_powerDecides(uint256 seed, uint256 count, uint256 keyed, uint256 signers) public {
        count = bound(count, 1, 6);
        keyed = bound(keyed, 1, (1 << count) - 1);
        signers &= keyed;
        (address[] memory validators_, uint256[] memory privateKeys) = sortedKeys(NEXT_KEYS, count);
        Aggregates.Aggregate memory aggregate;
        (aggregate.validators, aggregate.powers) = (validators_, new uint64[](count));
        (uint256 signed, uint256 total) = (0, 0);
        for (uint256 i; i < count; ++i) {
            aggregate.powers[i] = uint64(uint256(keccak256(abi.encode(seed, i))) % 1e9 + 1);
            total += aggregate.powers[i];
            if ((signers >> i) & 1 != 0) signed += aggregate.powers[i];
        }
        bytes32 set = keccak256(abi.encode(validators_, aggregate.powers));
        submit(headerOf(LAST, keccak256("state"), set, uint64(block.timestamp)), LAST);
        keySet(NEXT_KEYS, count, keyed);
        bytes memory header = headerOf(EPOCH_BLOCKS, keccak256("s"), set, uint64(block.timestamp));
        (aggregate.keyed, aggregate.signers) = (keyed, signers);
        uint256 secret = sumOfSecrets(privateKeys, signers);
        (aggregate.key, aggregate.absentKeys) = (keyOf(secret), keysOf(privateKeys, keyed & ~signers));
        bytes32 digest = checkpoints.checkpointDigest(EPOCH_BLOCKS, keccak256(header), set);
        aggregate.signature = signBls(secret, digest, TO_SIGN);
        bool enough = signed * 3 > total * 2;
        if (!enough) vm.expectRevert(abi.encodeWithSelector(Certificates.QuorumMissing.selector, signed, total));
        checkpoints.submitAggregated(header, aggregate);
        vm.assertTrue((checkpoints.blockHashOf(EPOCH_BLOCKS) != 0) == enough, "accepted");
    }

    /// @dev Any byte of header, key, keys or signature that differs from what was signed: refused.
    function testFuzz_forgeriesAreRefused(uint256 place, uint8 flip) public {
        keySet(SET_KEYS, 4, ALL);
        bytes memory header = plainHeader(3);
        Aggregates.Aggregate memory aggregate = aggregateFor(header, 3, SET_KEYS, 4, 11);
        if (flip == 0) flip = 1;
        bytes memory all = bytes.concat(header, aggregate.key, aggregate.absentKeys, aggregate.signature);
        all[bound(place, 0, all.length - 1)] ^= bytes1(flip);
        header = slice(all, 0, header.length);
        aggregate.key = slice(all, header.length, 256);
        aggregate.absentKeys = slice(all, header.length + 256, 256);
        aggregate.signature = slice(all, header.length + 512, 128);
        try checkpoints.submitAggregated(header, aggregate) {
            vm.assertTrue(false, "a forgery was accepted");
        } catch {}
    }

    // --- helpers ---

    function sumOfSecrets(uint256[] memory privateKeys, uint256 which) private pure returns (uint256 secret) {
        for (uint256 i; i < privateKeys.length; ++i) {
            if ((which >> i) & 1 != 0) secret = addmod(secret, secretOf(privateKeys[i]), ORDER);
        }
    }

    function expectUnregistered(uint256 privateKey, uint256 secret, bytes memory reason) private {
        address validator = vm.addr(privateKey);
        bytes32 digest = registrationOf(validator, keyOf(secret));
        bytes memory possession = signBls(secret, digest, TO_PROVE);
        bytes memory key = keyOf(secret);
        bytes memory consent = signDigest(privateKey, digest);
        vm.expectRevert(reason);
        checkpointKeys.register(validator, key, possession, consent);
    }

    function expectRefusedKey(bytes memory key, bytes memory possession, bytes memory reason) private {
        address validator = vm.addr(SET_KEYS);
        bytes memory consent = signDigest(SET_KEYS, registrationOf(validator, key));
        vm.expectRevert(reason);
        checkpointKeys.register(validator, key, possession, consent);
    }

    function expectRefused(bytes memory header, Aggregates.Aggregate memory aggregate, bytes memory reason) private {
        vm.expectRevert(reason);
        checkpoints.submitAggregated(header, aggregate);
    }

    function expectUnsigned(bytes memory header, bytes32 digest) private {
        Aggregates.Aggregate memory aggregate = aggregateOver(digest, SET_KEYS, 4, ALL);
        expectRefused(header, aggregate, abi.encodeWithSelector(ICheckpointKeys.SignatureInvalid.selector));
    }

    function slice(bytes memory from, uint256 start, uint256 length) private pure returns (bytes memory part) {
        part = new bytes(length);
        for (uint256 i; i < length; ++i) {
            part[i] = from[start + i];
        }
    }
}

/// @dev On a chain with the rules of Cancun, as all others of these tests.
contract CheckpointKeysWithoutPrecompilesTest is AggregateWorld {
    function test_nothingIsBelieved() public {
        checkpointKeys = new CheckpointKeys();
        (address validator, bytes memory key) = (vm.addr(SET_KEYS), GENERATOR);
        bytes memory consent = signDigest(SET_KEYS, registrationOf(validator, key));
        vm.expectRevert(abi.encodeWithSelector(Bls.PrecompileFailed.selector, address(0x10)));
        checkpointKeys.register(validator, key, new bytes(128), consent);
    }
}

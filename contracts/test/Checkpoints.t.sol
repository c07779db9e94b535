// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Checkpoints} from "../src/Checkpoints.sol";
import {ICheckpoints} from "../src/interfaces/ICheckpoints.sol";
import {Certificates} from "../src/libraries/Certificates.sol";
import {Headers} from "../src/libraries/Headers.sol";
import {LaneWorld} from "./support/LaneWorld.sol";
import {bound, vm} from "./support/Vm.sol";

contract CheckpointsTest is LaneWorld {
    uint256 private constant NEXT_KEYS = 0xF500;
    uint64 private constant LAST = EPOCH_BLOCKS - 1;

    function setUp() public {
        deployLaneWorld();
    }

    function test_acceptsWhatMoreThanTwoThirdsDecided() public {
        bytes memory header = plainHeader(3);
        submit(header, 3);
        vm.assertEq(checkpoints.blockHashOf(3), keccak256(header), "known");
        (uint64 top, uint64 time) = checkpoints.latest();
        vm.assertEq(top, 3, "height");
        vm.assertEq(time, block.timestamp, "time");
        header = plainHeader(7);
        checkpoints.submit(header, certify(header, 7, SET_KEYS, 4, 4));
        vm.assertEq(checkpoints.blockHashOf(7), keccak256(header), "in between may be left out");
    }

    function test_twoThirdsAreNotEnough() public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory half = certify(header, 3, SET_KEYS, 4, 2);
        vm.expectRevert(abi.encodeWithSelector(Certificates.QuorumMissing.selector, 500_000_000, 1_000_000_000));
        checkpoints.submit(header, half);
        // Three of three, where the third has what does not divide: two are just below two thirds.
        header = headerOf(LAST, keccak256("state"), setHash(NEXT_KEYS, 3), uint64(block.timestamp));
        submit(header, LAST);
        bytes memory next = headerOf(EPOCH_BLOCKS, keccak256("s"), setHash(NEXT_KEYS, 3), uint64(block.timestamp));
        Certificates.Certificate memory two = certify(next, EPOCH_BLOCKS, NEXT_KEYS, 3, 2);
        (two.signers, two.signatures) = swapToLast(next);
        vm.expectRevert(abi.encodeWithSelector(Certificates.QuorumMissing.selector, 666_666_666, 1_000_000_000));
        checkpoints.submit(next, two);
    }

    function test_theSetChangesWithTheEpochsLastHeader() public {
        bytes memory header = headerOf(LAST, keccak256("state"), setHash(NEXT_KEYS, 5), uint64(block.timestamp));
        submit(header, LAST);
        vm.assertEq(checkpoints.trustOf(1).setHash, setHash(NEXT_KEYS, 5), "the next set");
        bytes memory next = headerOf(EPOCH_BLOCKS, keccak256("s"), setHash(NEXT_KEYS, 5), uint64(block.timestamp));
        Certificates.Certificate memory old = certify(next, EPOCH_BLOCKS, SET_KEYS, 4, 4);
        vm.expectRevert(
            abi.encodeWithSelector(ICheckpoints.SetMismatch.selector, setHash(SET_KEYS, 4), setHash(NEXT_KEYS, 5))
        );
        checkpoints.submit(next, old);
        checkpoints.submit(next, certify(next, EPOCH_BLOCKS, NEXT_KEYS, 5, 4));
    }

    function test_aSetCertifiesNothingBeyondItsEpoch() public {
        bytes memory header = plainHeader(EPOCH_BLOCKS);
        Certificates.Certificate memory all = certify(header, EPOCH_BLOCKS, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.EpochUntrusted.selector, uint64(1)));
        checkpoints.submit(header, all);
    }

    function test_headersInsideAnEpochCarryItsSet() public {
        bytes memory header = headerOf(3, keccak256("state"), setHash(NEXT_KEYS, 4), uint64(block.timestamp));
        Certificates.Certificate memory all = certify(header, 3, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NextSetInvalid.selector, uint64(3)));
        checkpoints.submit(header, all);
        header = headerOf(LAST, keccak256("state"), bytes32(0), uint64(block.timestamp));
        all = certify(header, LAST, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NextSetInvalid.selector, LAST));
        checkpoints.submit(header, all);
    }

    function test_refusesWhatIsNotNewer() public {
        submit(plainHeader(5), 5);
        bytes memory header = plainHeader(5);
        Certificates.Certificate memory again = certify(header, 5, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.NotNewer.selector, uint64(5), uint64(5)));
        checkpoints.submit(header, again);
    }

    function test_refusesSignaturesOfAnotherChain() public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory other = certifyOn(header, 3, SET_KEYS, 4, 4, block.chainid + 1);
        vm.expectRevert(abi.encodeWithSelector(Certificates.SignerInvalid.selector, 0));
        checkpoints.submit(header, other);
    }

    function test_refusesSignaturesOfAnotherHeightOrRound() public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory other = certify(header, 4, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(Certificates.SignerInvalid.selector, 0));
        checkpoints.submit(header, other);
        other = certify(header, 3, SET_KEYS, 4, 4);
        other.round = 0;
        vm.expectRevert(abi.encodeWithSelector(Certificates.SignerInvalid.selector, 0));
        checkpoints.submit(header, other);
    }

    function test_refusesAnOldSet() public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory all = certify(header, 3, SET_KEYS, 4, 4);
        uint256 until = block.timestamp + TRUST;
        vm.warp(until + 1);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.TrustExpired.selector, uint64(0), until));
        checkpoints.submit(header, all);
        vm.warp(until);
        checkpoints.submit(header, all);
    }

    function test_aClockThatRunsAheadIsRefusedAndLengthensNothing() public {
        uint64 time = uint64(block.timestamp) + checkpoints.MAX_AHEAD();
        bytes memory header = headerOf(LAST, keccak256("state"), setHash(SET_KEYS, 4), time + 1);
        Certificates.Certificate memory all = certify(header, LAST, SET_KEYS, 4, 4);
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.BlockAhead.selector, time + 1));
        checkpoints.submit(header, all);
        submit(headerOf(LAST, keccak256("state"), setHash(SET_KEYS, 4), time), LAST);
        vm.assertEq(checkpoints.trustOf(1).since, block.timestamp, "trusted from when it was seen");
    }

    function test_malformedCertificatesAreRefused() public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory good = certify(header, 3, SET_KEYS, 4, 3);
        Certificates.Certificate memory bad = certify(header, 3, SET_KEYS, 4, 3);
        bad.signers |= 1 << 4;
        expectRefused(header, bad, abi.encodeWithSelector(Certificates.CertificateMalformed.selector));
        bad.signers = good.signers;
        bad.signatures = bytes.concat(good.signatures, hex"00");
        expectRefused(header, bad, abi.encodeWithSelector(Certificates.CertificateMalformed.selector));
        bad.signatures = new bytes(64);
        expectRefused(header, bad, abi.encodeWithSelector(Certificates.CertificateMalformed.selector));
        // One signature for two members.
        bad.signatures = bytes.concat(first(good.signatures), first(good.signatures), first(good.signatures));
        expectRefused(header, bad, abi.encodeWithSelector(Certificates.SignerInvalid.selector, 1));
        bad = certify(header, 3, SET_KEYS, 4, 3);
        bad.powers = new uint64[](3);
        bytes32 given = keccak256(abi.encode(bad.validators, bad.powers));
        bytes32 trusted = setHash(SET_KEYS, 4);
        expectRefused(header, bad, abi.encodeWithSelector(ICheckpoints.SetMismatch.selector, given, trusted));
        bytes memory long = bytes.concat(header, new bytes(2048));
        expectRefused(long, good, abi.encodeWithSelector(Headers.HeaderTooLong.selector, long.length));
    }

    function test_aForkEndsTheEraAndGovernanceBeginsTheNext() public {
        submit(plainHeader(3), 3);
        bytes memory a = plainHeader(6);
        bytes memory b = headerOf(6, keccak256("another"), setHash(SET_KEYS, 4), uint64(block.timestamp));
        Certificates.Certificate memory ofA = certify(a, 6, SET_KEYS, 4, 3);
        Certificates.Certificate memory ofB = certify(b, 6, SET_KEYS, 4, 3);
        vm.expectRevert(ICheckpoints.NoFork.selector);
        checkpoints.reportFork(a, ofA, a, ofA);
        checkpoints.reportFork(a, ofA, b, ofB);
        vm.assertEq(checkpoints.era(), 1, "the next era");
        vm.assertEq(checkpoints.blockHashOf(3), bytes32(0), "nothing counts");
        vm.expectRevert(abi.encodeWithSelector(ICheckpoints.EpochUntrusted.selector, uint64(0)));
        checkpoints.submit(a, ofA);

        vm.expectRevert(abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", address(this)));
        checkpoints.anchor(b);
        vm.prank(GOVERNANCE);
        checkpoints.anchor(b);
        vm.assertEq(checkpoints.blockHashOf(6), keccak256(b), "named");
        submit(plainHeader(7), 7);
    }

    function test_governanceNamesABlockOnlyWhenTrustHasExpired() public {
        bytes memory header = plainHeader(500);
        vm.startPrank(GOVERNANCE);
        vm.expectRevert(ICheckpoints.StillTrusted.selector);
        checkpoints.anchor(header);
        vm.warp(block.timestamp + TRUST + 1);
        header = plainHeader(500);
        checkpoints.anchor(header);
        vm.expectRevert(ICheckpoints.StillTrusted.selector);
        checkpoints.anchor(header);
        vm.stopPrank();
        submit(plainHeader(501), 501);
    }

    function test_parametersAreBounded() public {
        bytes memory header = genesis();
        uint64 most = checkpoints.MAX_TRUST_PERIOD();
        vm.expectRevert(ICheckpoints.ParametersOutOfBounds.selector);
        new Checkpoints(1, 3, TRUST, GOVERNANCE, checkpointKeys, header);
        vm.expectRevert(ICheckpoints.ParametersOutOfBounds.selector);
        new Checkpoints(1, 4, 0, GOVERNANCE, checkpointKeys, header);
        vm.expectRevert(ICheckpoints.ParametersOutOfBounds.selector);
        new Checkpoints(1, 4, most + 1, GOVERNANCE, checkpointKeys, header);
    }

    /// @dev Whoever signs: accepted exactly when more than two thirds of the power did.
    function testFuzz_powerDecides(uint256 seed, uint256 count, uint256 signers) public {
        count = bound(count, 1, 12);
        (address[] memory keys, uint256[] memory privateKeys) = sortedKeys(NEXT_KEYS, count);
        Certificates.Certificate memory certificate;
        certificate.validators = keys;
        certificate.powers = new uint64[](count);
        uint256 total;
        for (uint256 i; i < count; ++i) {
            certificate.powers[i] = uint64(uint256(keccak256(abi.encode(seed, i))) % 1e9 + 1);
            total += certificate.powers[i];
        }
        bytes32 set = keccak256(abi.encode(keys, certificate.powers));
        submit(headerOf(LAST, keccak256("state"), set, uint64(block.timestamp)), LAST);
        bytes memory header = headerOf(EPOCH_BLOCKS, keccak256("s"), set, uint64(block.timestamp));
        certificate.signers = signers & ((1 << count) - 1);
        uint256 signed = sign(certificate, header, privateKeys);
        bool enough = signed * 3 > total * 2;
        if (!enough) vm.expectRevert(abi.encodeWithSelector(Certificates.QuorumMissing.selector, signed, total));
        checkpoints.submit(header, certificate);
        vm.assertTrue((checkpoints.blockHashOf(EPOCH_BLOCKS) != 0) == enough, "accepted");
    }

    /// @dev Any byte of header or signatures that differs from what was signed: refused.
    function testFuzz_forgeriesAreRefused(uint256 place, uint8 flip) public {
        bytes memory header = plainHeader(3);
        Certificates.Certificate memory certificate = certify(header, 3, SET_KEYS, 4, 3);
        if (flip == 0) flip = 1;
        uint256 spot = bound(place, 0, header.length + certificate.signatures.length - 1);
        if (spot < header.length) header[spot] ^= bytes1(flip);
        else certificate.signatures[spot - header.length] ^= bytes1(flip);
        try checkpoints.submit(header, certificate) {
            vm.assertTrue(false, "a forgery was accepted");
        } catch {}
    }

    function sign(Certificates.Certificate memory certificate, bytes memory header, uint256[] memory privateKeys)
        private
        view
        returns (uint256 signed)
    {
        Certificates.Certificate memory all =
            certify(header, EPOCH_BLOCKS, NEXT_KEYS, privateKeys.length, privateKeys.length);
        certificate.round = all.round;
        for (uint256 i; i < privateKeys.length; ++i) {
            if ((certificate.signers >> i) & 1 == 0) continue;
            signed += certificate.powers[i];
            certificate.signatures = bytes.concat(certificate.signatures, slice(all.signatures, 65 * i));
        }
    }

    function swapToLast(bytes memory header) private view returns (uint256 signers, bytes memory signatures) {
        Certificates.Certificate memory all = certify(header, EPOCH_BLOCKS, NEXT_KEYS, 3, 3);
        return (6, bytes.concat(slice(all.signatures, 65), slice(all.signatures, 130)));
    }

    function expectRefused(bytes memory header, Certificates.Certificate memory certificate, bytes memory reason)
        private
    {
        vm.expectRevert(reason);
        checkpoints.submit(header, certificate);
    }

    function first(bytes memory signatures) private pure returns (bytes memory) {
        return slice(signatures, 0);
    }

    function slice(bytes memory signatures, uint256 start) private pure returns (bytes memory part) {
        part = new bytes(65);
        for (uint256 i; i < 65; ++i) {
            part[i] = signatures[start + i];
        }
    }
}

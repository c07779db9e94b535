// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TrieProof} from "@openzeppelin/contracts/utils/cryptography/TrieProof.sol";
import {Outbox} from "../src/Outbox.sol";
import {IForeignBlocks} from "../src/interfaces/IForeignBlocks.sol";
import {IInbox} from "../src/interfaces/IInbox.sol";
import {IOutbox} from "../src/interfaces/IOutbox.sol";
import {Outgoing} from "../src/libraries/Outgoing.sol";
import {LaneWorld} from "./support/LaneWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev Messages from an outbox to the inbox at the other end, and the blocks that both believe.
contract LaneTest is LaneWorld {
    function setUp() public {
        deployLaneWorld();
    }

    // --- outbox ---

    function test_theAccumulatorStandsInSlotZero() public {
        vm.assertEq(upward.accumulator(), bytes32(0), "empty");
        sendPlain(3);
        vm.assertEq(vm.load(address(upward), bytes32(0)), upward.accumulator(), "slot 0");
    }

    function testFuzz_theAccumulatorIsTheTreeOfAllMessages(uint256 count) public {
        count = bound(count, 1, 40);
        sendPlain(count);
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, count);
        vm.assertEq(upward.accumulator(), Outgoing.commitment(uint32(count), inclusion.root), "root and count");
        vm.assertEq(upward.count(), count, "count");
    }

    function test_longMessagesAreRefused() public {
        upward.send(address(1), new bytes(1024));
        vm.expectRevert(abi.encodeWithSelector(IOutbox.DataTooLong.selector, 1025));
        upward.send(address(1), new bytes(1025));
        vm.expectRevert(IOutbox.ChainInvalid.selector);
        new Outbox(0);
    }

    // --- inbox ---

    function test_oneProofCoversAllMessagesSoFar() public {
        sendPlain(5);
        proveUp();
        for (uint32 i; i < 5; ++i) {
            IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, i, 5);
            upInbox.consume(ups[i], inclusion);
            vm.assertTrue(upInbox.isConsumed(i), "consumed");
            vm.expectRevert(abi.encodeWithSelector(IInbox.AlreadyConsumed.selector, i));
            upInbox.consume(ups[i], inclusion);
        }
        sendPlain(2);
        vm.assertFalse(upInbox.isKnown(upward.accumulator()), "not yet");
        proveUp();
        upInbox.consume(ups[6], inclusionOf(ups, upward, 6, 7));
    }

    function test_consumedOnceUnderEveryAccumulator() public {
        sendPlain(2);
        proveUp();
        upInbox.consume(ups[0], inclusionOf(ups, upward, 0, 2));
        sendPlain(1);
        proveUp();
        IInbox.Inclusion memory later = inclusionOf(ups, upward, 0, 3);
        vm.expectRevert(abi.encodeWithSelector(IInbox.AlreadyConsumed.selector, uint32(0)));
        upInbox.consume(ups[0], later);
    }

    function test_onlyTheTargetConsumes() public {
        sendPlain(1);
        proveUp();
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, 1);
        vm.prank(client);
        vm.expectRevert(abi.encodeWithSelector(IInbox.NotTarget.selector, address(this), client));
        upInbox.consume(ups[0], inclusion);
    }

    /// @dev Whatever is changed of a message or of its place, it is not the one that was sent.
    function testFuzz_onlyWhatWasSentIsConsumed(uint256 what, uint256 value) public {
        sendPlain(6);
        proveUp();
        IOutbox.Message memory message = ups[3];
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 3, 6);
        what = what % 4;
        if (what == 0) message.index = uint32(bound(value, 4, 5));
        if (what == 1) message.sender = address(uint160(bound(value, 1, 1e9)));
        if (what == 2) message.data = abi.encode(value, value);
        if (what == 3) inclusion.path[value % inclusion.path.length] = bytes32(value);
        vm.expectRevert(abi.encodeWithSelector(IInbox.NotIncluded.selector, message.index));
        upInbox.consume(message, inclusion);
    }

    function test_anUnprovenAccumulatorProvesNothing() public {
        sendPlain(1);
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IInbox.AccumulatorUnknown.selector, upward.accumulator()));
        upInbox.consume(ups[0], inclusion);
    }

    function test_onlyFinalBlocksProve() public {
        sendPlain(1);
        (bytes32 root, bytes[] memory account, bytes[] memory storage_) =
            stateWith(address(upward), upward.accumulator());
        bytes memory header = headerOf(2, root, setHash(SET_KEYS, 4), uint64(block.timestamp));
        vm.expectRevert(abi.encodeWithSelector(IInbox.BlockUnknown.selector, uint64(2), keccak256(header)));
        upInbox.prove(header, account, storage_);
        submit(header, 2);
        storage_[0][40] ^= 0x01;
        vm.expectRevert(
            abi.encodeWithSelector(TrieProof.TrieProofTraversalError.selector, TrieProof.ProofError.INVALID_ROOT)
        );
        upInbox.prove(header, account, storage_);
    }

    function test_anotherContractsSlotProvesNothing() public {
        sendPlain(1);
        (bytes32 root, bytes[] memory account, bytes[] memory storage_) = stateWith(client, upward.accumulator());
        bytes memory header = headerOf(2, root, setHash(SET_KEYS, 4), uint64(block.timestamp));
        submit(header, 2);
        vm.expectRevert(
            abi.encodeWithSelector(
                TrieProof.TrieProofTraversalError.selector, TrieProof.ProofError.INVALID_PATH_REMAINDER
            )
        );
        upInbox.prove(header, account, storage_);
    }

    function test_afterAForkEverythingIsProvenAnew() public {
        sendPlain(1);
        proveUp();
        bytes memory a = plainHeader(6);
        bytes memory b = headerOf(6, keccak256("another"), setHash(SET_KEYS, 4), uint64(block.timestamp));
        checkpoints.reportFork(a, certify(a, 6, SET_KEYS, 4, 3), b, certify(b, 6, SET_KEYS, 4, 3));
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, 0, 1);
        vm.expectRevert(abi.encodeWithSelector(IInbox.AccumulatorUnknown.selector, upward.accumulator()));
        upInbox.consume(ups[0], inclusion);
        bytes memory named = plainHeader(7);
        vm.prank(GOVERNANCE);
        checkpoints.anchor(named);
        height = 7;
        proveUp();
        upInbox.consume(ups[0], inclusion);
    }

    // --- foreign blocks ---

    function test_aForeignBlockNeedsMoreThanTwoThirds() public {
        bytes32 hash = keccak256("block");
        attest(9, hash, 2);
        vm.assertEq(foreign.blockHashOf(9), bytes32(0), "half");
        vm.assertEq(foreign.powerFor(0, 9, hash), TOTAL_POWER / 2, "counted");
        attest(9, hash, 2);
        vm.assertEq(foreign.powerFor(0, 9, hash), TOTAL_POWER / 2, "once each");
        (uint256[] memory indexes, bytes[] memory signatures) = attestations(9, hash, 2, 1);
        foreign.attest(9, hash, indexes, signatures);
        vm.assertEq(foreign.blockHashOf(9), hash, "three quarters");
        vm.assertEq(foreign.latest(), 9, "latest");
        vm.expectRevert(abi.encodeWithSelector(IForeignBlocks.AlreadyKnown.selector, uint64(9)));
        foreign.attest(9, hash, indexes, signatures);
    }

    function test_nobodyCountsForTwoBlocksOfOneNumber() public {
        attest(9, keccak256("a"), 2);
        attest(9, keccak256("b"), 4);
        vm.assertEq(foreign.powerFor(0, 9, keccak256("b")), TOTAL_POWER / 2, "the other two");
        vm.assertEq(foreign.blockHashOf(9), bytes32(0), "none");
        // The next epoch's set begins anew.
        vm.roll(EPOCH_BLOCKS);
        attest(9, keccak256("b"), 3);
        vm.assertEq(foreign.blockHashOf(9), keccak256("b"), "agreed");
    }

    function test_strangersAndForgeriesDoNotCount() public {
        bytes32 hash = keccak256("block");
        (uint256[] memory indexes, bytes[] memory signatures) = attestations(9, hash, 0, 3);
        vm.expectRevert(abi.encodeWithSelector(IForeignBlocks.SignerInvalid.selector, 0));
        foreign.attest(10, hash, indexes, signatures);
        indexes[1] = 2;
        vm.expectRevert(abi.encodeWithSelector(IForeignBlocks.SignerInvalid.selector, 2));
        foreign.attest(9, hash, indexes, signatures);
        vm.expectRevert(abi.encodeWithSelector(IForeignBlocks.LengthsDiffer.selector, 0, 3));
        foreign.attest(9, hash, new uint256[](0), signatures);
        vm.expectRevert(IForeignBlocks.BlockInvalid.selector);
        foreign.attest(9, bytes32(0), indexes, signatures);
    }

    /// @dev Messages from this contract to this contract.
    function sendPlain(uint256 count) private {
        for (uint256 i; i < count; ++i) {
            bytes memory data = abi.encode("message", ups.length);
            uint32 index = upward.send(address(this), data);
            ups.push(IOutbox.Message(index, address(this), address(this), data));
        }
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Members} from "../src/Members.sol";
import {IMembers} from "../src/interfaces/IMembers.sol";
import {vm} from "./support/Vm.sol";

contract MembersTest {
    address private constant OWNER = address(0x60F);
    address private constant ALICE = address(0xA11CE);
    address private constant BOB = address(0xB0B);
    bytes32 private constant TRANSPORT = keccak256("transport");
    uint256 private constant INVITE_KEY = 0x1117;
    IMembers.Rights private constant READ = IMembers.Rights.wrap(0);
    IMembers.Rights private constant SERVE = IMembers.Rights.wrap(2);

    Members private members;

    function setUp() public {
        vm.warp(1_800_000_000);
        vm.roll(100);
        members = new Members(OWNER, OWNER, TRANSPORT);
    }

    function test_anInvitationIsTakenUpOnceByWhoHoldsItsKey() public {
        invite(INVITE_KEY);
        bytes memory signature = sign(INVITE_KEY, ALICE);
        vm.prank(BOB);
        vm.expectPartialRevert(IMembers.InvitationUnknown.selector);
        members.join(TRANSPORT, signature);
        vm.prank(ALICE);
        members.join(TRANSPORT, signature);
        vm.assertTrue(members.isMember(ALICE, SERVE), "with its rights");
        vm.assertFalse(members.isMember(ALICE, IMembers.Rights.wrap(4)), "and no others");
        signature = sign(INVITE_KEY, BOB);
        vm.prank(BOB);
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationUnknown.selector, hashOf(INVITE_KEY)));
        members.join(TRANSPORT, signature);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationTaken.selector, hashOf(INVITE_KEY)));
        members.invite(hashOf(INVITE_KEY), SERVE, 1 days);
    }

    function test_invitationsEndAndCanBeTakenBack() public {
        invite(INVITE_KEY);
        bytes memory signature = sign(INVITE_KEY, ALICE);
        uint64 until = uint64(block.timestamp + 1 days);
        vm.warp(until + 1);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationOver.selector, until));
        members.join(TRANSPORT, signature);
        vm.warp(until);
        vm.prank(OWNER);
        members.revoke(hashOf(INVITE_KEY));
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationUnknown.selector, hashOf(INVITE_KEY)));
        members.join(TRANSPORT, signature);
    }

    function test_aRemovalHoldsFromTheNextBlockOn() public {
        joinAs(ALICE, INVITE_KEY);
        vm.assertFalse(members.isMemberAt(ALICE, 100), "not in the block of its joining");
        vm.roll(110);
        vm.assertTrue(members.isMemberAt(ALICE, 110), "later");
        vm.prank(OWNER);
        members.remove(ALICE);
        vm.assertTrue(members.isMemberAt(ALICE, 110), "still in the block of its removal");
        vm.assertFalse(members.isMemberAt(ALICE, 111), "not in the next");
        vm.assertFalse(members.isMember(ALICE, READ), "after this block");
        vm.assertFalse(members.isMemberAt(BOB, 110), "strangers never");
        vm.roll(120);
        joinAs(ALICE, INVITE_KEY + 1);
        vm.assertTrue(members.isMemberAt(ALICE, 121), "invited again");
    }

    function test_onlyTheOwnerDecidesButAnyoneMayGo() public {
        joinAs(ALICE, INVITE_KEY);
        joinAs(BOB, INVITE_KEY + 1);
        bytes memory refusal = abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", BOB);
        vm.startPrank(BOB);
        vm.expectRevert(refusal);
        members.remove(ALICE);
        vm.expectRevert(refusal);
        members.setRights(BOB, SERVE);
        vm.expectRevert(refusal);
        members.invite(bytes32(0), SERVE, 1);
        vm.expectRevert(refusal);
        members.revoke(hashOf(INVITE_KEY));
        members.remove(BOB);
        vm.expectRevert(abi.encodeWithSelector(IMembers.NotMember.selector, BOB));
        members.remove(BOB);
        vm.stopPrank();
        vm.startPrank(OWNER);
        members.setRights(ALICE, READ);
        vm.assertTrue(members.isMember(ALICE, READ) && !members.isMember(ALICE, SERVE), "reads only");
        vm.expectRevert(abi.encodeWithSelector(IMembers.NotMember.selector, BOB));
        members.setRights(BOB, READ);
        uint64 most = members.MAX_LIFETIME();
        vm.expectRevert(abi.encodeWithSelector(IMembers.LifetimeOutOfBounds.selector, most + 1));
        members.invite(bytes32(0), SERVE, most + 1);
        vm.stopPrank();
    }

    function test_nobodyJoinsTwiceOrWithoutATransportKey() public {
        joinAs(ALICE, INVITE_KEY);
        invite(INVITE_KEY + 1);
        bytes memory signature = sign(INVITE_KEY + 1, ALICE);
        vm.prank(ALICE);
        vm.expectRevert(abi.encodeWithSelector(IMembers.AlreadyMember.selector, ALICE));
        members.join(TRANSPORT, signature);
        signature = signWith(INVITE_KEY + 1, BOB, 0);
        vm.prank(BOB);
        vm.expectRevert(IMembers.TransportKeyInvalid.selector);
        members.join(0, signature);
        vm.prank(BOB);
        vm.expectRevert(IMembers.SignatureInvalid.selector);
        members.join(TRANSPORT, new bytes(65));
    }

    function test_theLogIsAChainOfHashes() public {
        bytes32 head = next(0, 0, 2, account(OWNER), TRANSPORT);
        checkHead(head, 1);
        invite(INVITE_KEY);
        head = next(head, 1, 0, hashOf(INVITE_KEY), bytes32((uint256(2) << 64) | (block.timestamp + 1 days)));
        checkHead(head, 2);
        bytes memory signature = sign(INVITE_KEY, ALICE);
        vm.prank(ALICE);
        members.join(TRANSPORT, signature);
        head = next(head, 2, 2, account(ALICE), TRANSPORT);
        vm.startPrank(OWNER);
        members.setRights(ALICE, READ);
        head = next(head, 3, 4, account(ALICE), 0);
        members.remove(ALICE);
        head = next(head, 4, 3, account(ALICE), account(OWNER));
        members.invite(hashOf(7), SERVE, 1 days);
        head = next(head, 5, 0, hashOf(7), bytes32((uint256(2) << 64) | (block.timestamp + 1 days)));
        members.revoke(hashOf(7));
        head = next(head, 6, 1, hashOf(7), 0);
        vm.stopPrank();
        checkHead(head, 7);
    }

    function test_pagesHoldEveryone() public {
        joinAs(ALICE, INVITE_KEY);
        joinAs(BOB, INVITE_KEY + 1);
        vm.assertEq(members.count(), 3, "with the founder");
        vm.assertEq(members.members(0, 2).length + members.members(2, 2).length, 3, "pages");
        vm.assertEq(members.members(3, 2).length, 0, "beyond");
        vm.assertEq(members.members(1, 1)[0].account, ALICE, "in the order of joining");
        vm.expectRevert(abi.encodeWithSelector(IMembers.PageTooLong.selector, 101));
        members.members(0, 101);
    }

    function joinAs(address who, uint256 key) private {
        invite(key);
        bytes memory signature = sign(key, who);
        vm.prank(who);
        members.join(TRANSPORT, signature);
    }

    function invite(uint256 key) private {
        vm.prank(OWNER);
        members.invite(hashOf(key), SERVE, 1 days);
    }

    function hashOf(uint256 key) private pure returns (bytes32) {
        return keccak256(abi.encode(vm.addr(key)));
    }

    function sign(uint256 key, address who) private view returns (bytes memory) {
        return signWith(key, who, TRANSPORT);
    }

    function signWith(uint256 key, address who, bytes32 transport) private view returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Cortensor Members"),
                keccak256("1"),
                block.chainid,
                address(members)
            )
        );
        bytes32 hash = keccak256(abi.encode(keccak256("Join(address account,bytes32 transportKey)"), who, transport));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(key, keccak256(abi.encodePacked(hex"1901", domain, hash)));
        return abi.encodePacked(r, s, v);
    }

    function next(bytes32 head, uint64 number, uint8 change, bytes32 subject, bytes32 data)
        private
        pure
        returns (bytes32)
    {
        return keccak256(abi.encode(head, number, change, subject, data));
    }

    function checkHead(bytes32 expected, uint64 entries) private view {
        (bytes32 head, uint64 length) = members.log();
        vm.assertEq(head, expected, "head");
        vm.assertEq(length, entries, "length");
    }

    function account(address who) private pure returns (bytes32) {
        return bytes32(uint256(uint160(who)));
    }
}

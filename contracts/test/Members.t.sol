// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Members} from "../src/Members.sol";
import {IMembers} from "../src/interfaces/IMembers.sol";
import {vm} from "./support/Vm.sol";

contract MembersTest {
    address private constant OWNER = address(0x60F);
    uint256 private constant ALICE_KEY = 0xA11CE;
    uint256 private constant BOB_KEY = 0xB0B;
    bytes32 private constant TRANSPORT = keccak256("transport");
    uint256 private constant INVITE_KEY = 0x1117;
    IMembers.Rights private constant READ = IMembers.Rights.wrap(0);
    IMembers.Rights private constant SERVE = IMembers.Rights.wrap(2);

    Members private members;
    address private alice;
    address private bob;

    function setUp() public {
        (alice, bob) = (vm.addr(ALICE_KEY), vm.addr(BOB_KEY));
        vm.warp(1_800_000_000);
        vm.roll(100);
        IMembers.Newcomer[] memory first = new IMembers.Newcomer[](1);
        first[0] = IMembers.Newcomer(OWNER, IMembers.Rights.wrap(type(uint32).max), TRANSPORT);
        members = new Members(OWNER, first);
    }

    function test_anInvitationIsTakenUpOnceByWhoHoldsItsKey() public {
        invite(INVITE_KEY);
        bytes memory signature = sign(INVITE_KEY, ALICE_KEY);
        vm.prank(bob);
        vm.expectRevert(IMembers.SignatureInvalid.selector);
        members.join(alice, TRANSPORT, signature);
        signature = signWith(bob, ALICE_KEY, TRANSPORT);
        vm.prank(bob);
        vm.expectPartialRevert(IMembers.InvitationUnknown.selector);
        members.join(alice, TRANSPORT, signature);
        joinWith(INVITE_KEY, ALICE_KEY);
        vm.assertTrue(members.isMember(alice, SERVE), "with its rights");
        vm.assertFalse(members.isMember(alice, IMembers.Rights.wrap(4)), "and no others");
        signature = sign(INVITE_KEY, BOB_KEY);
        vm.prank(vm.addr(INVITE_KEY));
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationUnknown.selector, hashOf(INVITE_KEY)));
        members.join(bob, TRANSPORT, signature);
        vm.prank(OWNER);
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationTaken.selector, hashOf(INVITE_KEY)));
        members.invite(hashOf(INVITE_KEY), SERVE, 1 days);
    }

    function test_nobodyJoinsWithoutWantingTo() public {
        invite(INVITE_KEY);
        bytes memory signature = signWith(vm.addr(INVITE_KEY), BOB_KEY, TRANSPORT);
        vm.startPrank(vm.addr(INVITE_KEY));
        vm.expectRevert(IMembers.SignatureInvalid.selector);
        members.join(alice, TRANSPORT, signature);
        vm.expectRevert(IMembers.SignatureInvalid.selector);
        members.join(bob, keccak256("another"), signature);
        vm.stopPrank();
    }

    function test_coinsThatComeAlongGoToTheNewMember() public {
        invite(INVITE_KEY);
        bytes memory signature = sign(INVITE_KEY, ALICE_KEY);
        vm.deal(vm.addr(INVITE_KEY), 3 ether);
        vm.prank(vm.addr(INVITE_KEY));
        members.join{value: 2 ether}(alice, TRANSPORT, signature);
        vm.assertEq(alice.balance, 2 ether, "passed on");
        vm.assertEq(address(members).balance, 0, "nothing stays");
    }

    function test_invitationsEndAndCanBeTakenBack() public {
        invite(INVITE_KEY);
        bytes memory signature = sign(INVITE_KEY, ALICE_KEY);
        uint64 until = uint64(block.timestamp + 1 days);
        vm.warp(until + 1);
        vm.prank(vm.addr(INVITE_KEY));
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationOver.selector, until));
        members.join(alice, TRANSPORT, signature);
        vm.warp(until);
        vm.prank(OWNER);
        members.revoke(hashOf(INVITE_KEY));
        vm.prank(vm.addr(INVITE_KEY));
        vm.expectRevert(abi.encodeWithSelector(IMembers.InvitationUnknown.selector, hashOf(INVITE_KEY)));
        members.join(alice, TRANSPORT, signature);
    }

    function test_aRemovalHoldsFromTheNextBlockOn() public {
        joinAs(ALICE_KEY, INVITE_KEY);
        vm.assertFalse(members.isMemberAt(alice, 100), "not in the block of its joining");
        vm.roll(110);
        vm.assertTrue(members.isMemberAt(alice, 110), "later");
        vm.prank(OWNER);
        members.remove(alice);
        vm.assertTrue(members.isMemberAt(alice, 110), "still in the block of its removal");
        vm.assertFalse(members.isMemberAt(alice, 111), "not in the next");
        vm.assertFalse(members.isMember(alice, READ), "after this block");
        vm.assertFalse(members.isMemberAt(bob, 110), "strangers never");
        vm.roll(120);
        joinAs(ALICE_KEY, INVITE_KEY + 1);
        vm.assertTrue(members.isMemberAt(alice, 121), "invited again");
    }

    function test_onlyTheOwnerDecidesButAnyoneMayGo() public {
        joinAs(ALICE_KEY, INVITE_KEY);
        joinAs(BOB_KEY, INVITE_KEY + 1);
        bytes memory refusal = abi.encodeWithSignature("OwnableUnauthorizedAccount(address)", bob);
        vm.startPrank(bob);
        vm.expectRevert(refusal);
        members.remove(alice);
        vm.expectRevert(refusal);
        members.setRights(bob, SERVE);
        vm.expectRevert(refusal);
        members.invite(bytes32(0), SERVE, 1);
        vm.expectRevert(refusal);
        members.revoke(hashOf(INVITE_KEY));
        members.remove(bob);
        vm.expectRevert(abi.encodeWithSelector(IMembers.NotMember.selector, bob));
        members.remove(bob);
        vm.stopPrank();
        vm.startPrank(OWNER);
        members.setRights(alice, READ);
        vm.assertTrue(members.isMember(alice, READ) && !members.isMember(alice, SERVE), "reads only");
        vm.expectRevert(abi.encodeWithSelector(IMembers.NotMember.selector, bob));
        members.setRights(bob, READ);
        uint64 most = members.MAX_LIFETIME();
        vm.expectRevert(abi.encodeWithSelector(IMembers.LifetimeOutOfBounds.selector, most + 1));
        members.invite(bytes32(0), SERVE, most + 1);
        vm.stopPrank();
    }

    function test_nobodyJoinsTwiceOrWithoutATransportKey() public {
        joinAs(ALICE_KEY, INVITE_KEY);
        invite(INVITE_KEY + 1);
        bytes memory signature = sign(INVITE_KEY + 1, ALICE_KEY);
        vm.startPrank(vm.addr(INVITE_KEY + 1));
        vm.expectRevert(abi.encodeWithSelector(IMembers.AlreadyMember.selector, alice));
        members.join(alice, TRANSPORT, signature);
        signature = signWith(vm.addr(INVITE_KEY + 1), BOB_KEY, 0);
        vm.expectRevert(IMembers.TransportKeyInvalid.selector);
        members.join(bob, 0, signature);
        vm.expectRevert(IMembers.SignatureInvalid.selector);
        members.join(bob, TRANSPORT, new bytes(65));
        vm.stopPrank();
    }

    function test_theLogIsAChainOfHashes() public {
        bytes32 head = next(0, 0, 2, account(OWNER), TRANSPORT);
        checkHead(head, 1);
        invite(INVITE_KEY);
        head = next(head, 1, 0, hashOf(INVITE_KEY), bytes32((uint256(2) << 64) | (block.timestamp + 1 days)));
        checkHead(head, 2);
        joinWith(INVITE_KEY, ALICE_KEY);
        head = next(head, 2, 2, account(alice), TRANSPORT);
        vm.startPrank(OWNER);
        members.setRights(alice, READ);
        head = next(head, 3, 4, account(alice), 0);
        members.remove(alice);
        head = next(head, 4, 3, account(alice), account(OWNER));
        members.invite(hashOf(7), SERVE, 1 days);
        head = next(head, 5, 0, hashOf(7), bytes32((uint256(2) << 64) | (block.timestamp + 1 days)));
        members.revoke(hashOf(7));
        head = next(head, 6, 1, hashOf(7), 0);
        vm.stopPrank();
        checkHead(head, 7);
    }

    function test_pagesHoldEveryone() public {
        joinAs(ALICE_KEY, INVITE_KEY);
        joinAs(BOB_KEY, INVITE_KEY + 1);
        vm.assertEq(members.count(), 3, "with the founder");
        vm.assertEq(members.members(0, 2).length + members.members(2, 2).length, 3, "pages");
        vm.assertEq(members.members(3, 2).length, 0, "beyond");
        vm.assertEq(members.members(1, 1)[0].account, alice, "in the order of joining");
        vm.expectRevert(abi.encodeWithSelector(IMembers.PageTooLong.selector, 101));
        members.members(0, 101);
    }

    function joinAs(uint256 who, uint256 key) private {
        invite(key);
        joinWith(key, who);
    }

    function joinWith(uint256 key, uint256 who) private {
        bytes memory signature = sign(key, who);
        vm.prank(vm.addr(key));
        members.join(vm.addr(who), TRANSPORT, signature);
    }

    function invite(uint256 key) private {
        vm.prank(OWNER);
        members.invite(hashOf(key), SERVE, 1 days);
    }

    function hashOf(uint256 key) private pure returns (bytes32) {
        return keccak256(abi.encode(vm.addr(key)));
    }

    function sign(uint256 key, uint256 who) private view returns (bytes memory) {
        return signWith(vm.addr(key), who, TRANSPORT);
    }

    function signWith(address invitation, uint256 who, bytes32 transport) private view returns (bytes memory) {
        bytes32 domain = keccak256(
            abi.encode(
                keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"),
                keccak256("Cortensor Members"),
                keccak256("1"),
                block.chainid,
                address(members)
            )
        );
        bytes32 kind = keccak256("Join(address invitation,bytes32 transportKey)");
        bytes32 hash = keccak256(abi.encode(kind, invitation, transport));
        (uint8 v, bytes32 r, bytes32 s) = vm.sign(who, keccak256(abi.encodePacked(hex"1901", domain, hash)));
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

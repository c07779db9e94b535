// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";
import {RLP} from "@openzeppelin/contracts/utils/RLP.sol";
import {LockBridge} from "../../src/LockBridge.sol";
import {MintBridge} from "../../src/MintBridge.sol";
import {CheckpointKeys} from "../../src/CheckpointKeys.sol";
import {Checkpoints} from "../../src/Checkpoints.sol";
import {CortensorToken} from "../../src/CortensorToken.sol";
import {ForeignBlocks} from "../../src/ForeignBlocks.sol";
import {Inbox} from "../../src/Inbox.sol";
import {Outbox} from "../../src/Outbox.sol";
import {IInbox} from "../../src/interfaces/IInbox.sol";
import {IOutbox} from "../../src/interfaces/IOutbox.sol";
import {Certificates} from "../../src/libraries/Certificates.sol";
import {Votes} from "../../src/libraries/Votes.sol";
import {ConsensusWorld} from "./ConsensusWorld.sol";
import {vm} from "./Vm.sol";

/// @dev Both ends of a lane on one machine: checkpoints of a chain whose validators the test plays, foreign blocks that the validators of
/// `ConsensusWorld` attest, outboxes, inboxes and the bridge. Blocks are headers that the test makes; their states hold one account with one
/// slot, which is a whole trie. Tries of a real chain are proved by crates/contracts.
abstract contract LaneWorld is ConsensusWorld {
    using RLP for RLP.Encoder;

    uint64 internal constant TRUST = 20 days;
    uint64 internal constant DELAY = 2 days;
    uint256 internal constant SET_KEYS = BOOTSTRAP_KEYS;

    struct Proof {
        bytes header;
        bytes[] account;
        bytes[] storage_;
    }

    CortensorToken internal minted;
    CheckpointKeys internal checkpointKeys;
    Checkpoints internal checkpoints;
    ForeignBlocks internal foreign;
    Outbox internal upward;
    Outbox internal downward;
    Inbox internal upInbox;
    Inbox internal downInbox;
    LockBridge internal lockBridge;
    MintBridge internal mintBridge;
    TimelockController internal timelock;

    /// @dev Leaves of both outboxes, and what was sent.
    IOutbox.Message[] internal ups;
    IOutbox.Message[] internal downs;
    uint64 internal height;
    uint64 internal foreignHeight;

    function deployLaneWorld() internal {
        deployConsensusWorld();
        address[] memory governors = new address[](1);
        governors[0] = GOVERNANCE;
        timelock = new TimelockController(DELAY, governors, governors, address(0));
        checkpointKeys = new CheckpointKeys();
        checkpoints = new Checkpoints(block.chainid, EPOCH_BLOCKS, TRUST, GOVERNANCE, checkpointKeys, genesis());
        foreign = new ForeignBlocks(validators, block.chainid);
        upward = new Outbox(block.chainid);
        downward = new Outbox(block.chainid);
        upInbox = new Inbox(checkpoints, block.chainid, address(upward));
        downInbox = new Inbox(foreign, block.chainid, address(downward));
        minted = new CortensorToken(address(this), address(this), 0);
        lockBridge = new LockBridge(token, downward, upInbox, timelock);
        mintBridge = new MintBridge(minted, upward, downInbox, timelock);
        lockBridge.link(address(mintBridge));
        mintBridge.link(address(lockBridge));
        minted.transferOwnership(address(mintBridge));
        mintBridge.adopt();
    }

    // --- blocks ---

    function genesis() internal view returns (bytes memory) {
        return headerOf(0, bytes32(0), setHash(SET_KEYS, 4), uint64(block.timestamp));
    }

    function setHash(uint256 firstKey, uint256 count) internal pure returns (bytes32) {
        (address[] memory keys, uint64[] memory powers) = equalSet(firstKey, count);
        return keccak256(abi.encode(keys, powers));
    }

    function headerOf(uint64 number, bytes32 stateRoot, bytes32 extra, uint64 timestamp)
        internal
        pure
        returns (bytes memory)
    {
        RLP.Encoder memory header = RLP.encoder().push(bytes32(uint256(1))).push(bytes32(uint256(2)));
        header.push(address(3)).push(stateRoot).push(bytes32(uint256(4))).push(bytes32(uint256(5)));
        header.push(new bytes(256)).push(uint256(0)).push(uint256(number)).push(uint256(30_000_000));
        header.push(uint256(0)).push(uint256(timestamp)).push(abi.encodePacked(extra)).push(bytes32(uint256(6)));
        header.push(abi.encodePacked(bytes8(0))).push(uint256(7));
        return header.encode();
    }

    /// @dev A block that carries the set of `SET_KEYS` on, with nothing in its state.
    function plainHeader(uint64 number) internal view returns (bytes memory) {
        return headerOf(number, keccak256("state"), setHash(SET_KEYS, 4), uint64(block.timestamp));
    }

    /// @dev The first `signers` of `count` consecutive keys sign, in the order of the set.
    function certify(bytes memory header, uint64 number, uint256 firstKey, uint256 count, uint256 signers)
        internal
        view
        returns (Certificates.Certificate memory)
    {
        return certifyOn(header, number, firstKey, count, signers, block.chainid);
    }

    function certifyOn(
        bytes memory header,
        uint64 number,
        uint256 firstKey,
        uint256 count,
        uint256 signers,
        uint256 chain
    ) internal pure returns (Certificates.Certificate memory certificate) {
        uint256[] memory privateKeys;
        (certificate.validators, certificate.powers) = equalSet(firstKey, count);
        (, privateKeys) = sortedKeys(firstKey, count);
        certificate.round = 1;
        Votes.Vote memory vote = Votes.Vote({kind: 2, height: number, round: 1, blockHash: keccak256(header)});
        bytes32 digest = voteDigest(vote, chain);
        for (uint256 i; i < signers; ++i) {
            certificate.signers |= 1 << i;
            certificate.signatures = bytes.concat(certificate.signatures, signDigest(privateKeys[i], digest));
        }
    }

    function submit(bytes memory header, uint64 number) internal {
        checkpoints.submit(header, certify(header, number, SET_KEYS, 4, 3));
    }

    // --- states ---

    function leafNode(bytes32 key, bytes memory value) internal pure returns (bytes memory) {
        return RLP.encoder().push(abi.encodePacked(hex"20", key)).push(value).encode();
    }

    /// @dev A state of one account with one slot.
    function stateWith(address account, bytes32 value)
        internal
        pure
        returns (bytes32 root, bytes[] memory accountProof, bytes[] memory storageProof)
    {
        (accountProof, storageProof) = (new bytes[](1), new bytes[](1));
        storageProof[0] = leafNode(keccak256(abi.encode(uint256(0))), RLP.encode(uint256(value)));
        RLP.Encoder memory entry = RLP.encoder().push(uint256(1)).push(uint256(0));
        entry.push(keccak256(storageProof[0])).push(keccak256("code"));
        accountProof[0] = leafNode(keccak256(abi.encodePacked(account)), entry.encode());
        root = keccak256(accountProof[0]);
    }

    /// @dev A checkpoint of the next block, with the outbox as it is.
    function checkpointUp() internal returns (Proof memory proof) {
        ++height;
        bytes32 root;
        (root, proof.account, proof.storage_) = stateWith(address(upward), upward.accumulator());
        proof.header = headerOf(height, root, setHash(SET_KEYS, 4), uint64(block.timestamp));
        submit(proof.header, height);
    }

    function proveUp() internal {
        Proof memory proof = checkpointUp();
        upInbox.prove(proof.header, proof.account, proof.storage_);
    }

    /// @dev The next block of the other chain, attested by three of the four validators.
    function proveDown() internal {
        bytes32 root;
        Proof memory proof;
        (root, proof.account, proof.storage_) = stateWith(address(downward), downward.accumulator());
        proof.header = headerOf(++foreignHeight, root, bytes32(0), uint64(block.timestamp));
        attest(foreignHeight, keccak256(proof.header), 3);
        downInbox.prove(proof.header, proof.account, proof.storage_);
    }

    function attest(uint64 number, bytes32 hash, uint256 signers) internal {
        (uint256[] memory indexes, bytes[] memory signatures) = attestations(number, hash, 0, signers);
        foreign.attest(number, hash, indexes, signatures);
    }

    function attestations(uint64 number, bytes32 hash, uint256 first, uint256 count)
        internal
        view
        returns (uint256[] memory indexes, bytes[] memory signatures)
    {
        (, uint256[] memory privateKeys) = sortedKeys(BOOTSTRAP_KEYS, 4);
        (indexes, signatures) = (new uint256[](count), new bytes[](count));
        bytes32 digest = foreignDigest(block.chainid, number, hash, block.chainid);
        for (uint256 i; i < count; ++i) {
            indexes[i] = first + i;
            signatures[i] = signDigest(privateKeys[first + i], digest);
        }
    }

    // --- messages ---

    function sendUp(address from, address to, uint128 amount) internal {
        vm.startPrank(from);
        minted.approve(address(mintBridge), amount);
        uint32 index = mintBridge.send(to, amount);
        vm.stopPrank();
        ups.push(IOutbox.Message(index, address(mintBridge), address(lockBridge), abi.encode(to, amount)));
    }

    function sendDown(address from, address to, uint128 amount) internal {
        vm.startPrank(from);
        token.approve(address(lockBridge), amount);
        uint32 index = lockBridge.send(to, amount);
        vm.stopPrank();
        downs.push(IOutbox.Message(index, address(lockBridge), address(mintBridge), abi.encode(to, amount)));
    }

    /// @dev Where a message stands among the first `count`.
    function inclusionOf(IOutbox.Message[] storage sent, Outbox outbox, uint256 index, uint256 count)
        internal
        view
        returns (IInbox.Inclusion memory inclusion)
    {
        bytes32[] memory leaves = new bytes32[](count);
        for (uint256 i; i < count; ++i) {
            leaves[i] = outbox.leafOf(sent[i]);
        }
        return IInbox.Inclusion({count: uint32(count), root: treeRoot(leaves), path: treePath(leaves, index)});
    }

    function claimUp(uint256 index) internal {
        IInbox.Inclusion memory inclusion = inclusionOf(ups, upward, index, ups.length);
        lockBridge.claim(ups[index], inclusion);
    }

    function claimDown(uint256 index) internal {
        IInbox.Inclusion memory inclusion = inclusionOf(downs, downward, index, downs.length);
        mintBridge.claim(downs[index], inclusion);
    }
}

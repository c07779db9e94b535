// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IScores} from "./interfaces/IScores.sol";
import {Merkle} from "./libraries/Merkle.sol";
import {MINER} from "./types/Roles.sol";

/// @title Batches
/// @dev Holds no money. One slot a batch, one bit a receipt that was drawn.
contract Batches is IBatches, Ownable2Step {
    uint32 public constant MAX_COUNT = 65_536;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice Where miners are looked up.
    INodeRegistry public immutable nodeRegistry;
    /// @inheritdoc IBatches
    IGuards public immutable guards;
    /// @inheritdoc IBatches
    IScores public immutable scores;
    // As `guards` has them, so that `commit` need not ask.
    uint32 private immutable _EPOCH_LENGTH;
    uint64 private immutable _GENESIS;

    /// @inheritdoc IBatches
    address public auditor;
    /// @dev By miner and root.
    mapping(bytes32 batch => Batch) private _batches;
    /// @dev What `commit` notes, so that it need not ask `Scores`; zero before a miner's first batch.
    mapping(address miner => uint32) private _rates;
    /// @dev By batch, a bit for each index.
    mapping(bytes32 batch => mapping(uint256 word => uint256)) private _taken;

    constructor(INodeRegistry nodeRegistry_, IGuards guards_, IScores scores_, address initialOwner)
        Ownable(initialOwner)
    {
        if (address(nodeRegistry_) == address(0) || address(guards_) == address(0) || address(scores_) == address(0)) {
            revert ZeroAddress();
        }
        nodeRegistry = nodeRegistry_;
        guards = guards_;
        scores = scores_;
        _EPOCH_LENGTH = guards_.epochLength();
        _GENESIS = guards_.genesis();
    }

    /// @inheritdoc IBatches
    function commit(bytes32 root, uint32 count) external {
        if (root == bytes32(0) || count == 0 || count > MAX_COUNT) revert BatchInvalid(count);
        bytes32 key = _batchKey(msg.sender, root);
        if (_batches[key].count != 0) revert BatchKnown(root);
        if (!nodeRegistry.isActive(msg.sender, MINER)) revert MinerInactive(msg.sender);
        uint32 ratePpm = _rates[msg.sender];
        if (ratePpm == 0) ratePpm = refreshRate(msg.sender);
        // 136 years of seconds.
        // forge-lint: disable-next-line(unsafe-typecast)
        uint32 epoch = uint32((block.timestamp - _GENESIS) / _EPOCH_LENGTH);
        _batches[key] = Batch({count: count, epoch: epoch, ratePpm: ratePpm, committedAt: uint40(block.timestamp)});
        emit BatchCommitted(msg.sender, root, count);
    }

    /// @inheritdoc IBatches
    function take(address miner, bytes32 root, uint32 index, bytes32 item, bytes32[] calldata path)
        external
        returns (Batch memory batch)
    {
        batch = _take(miner, root, index);
        if (!Merkle.verify(root, Merkle.leaf(item), index, batch.count, path)) revert NotIncluded(root, index);
    }

    /// @inheritdoc IBatches
    function takeMissing(address miner, bytes32 root, uint32 index) external returns (Batch memory) {
        return _take(miner, root, index);
    }

    /// @inheritdoc IBatches
    function setAuditor(address next) external onlyOwner {
        if (next == address(0)) revert ZeroAddress();
        auditor = next;
        emit AuditorChanged(next);
    }

    /// @inheritdoc IBatches
    function isDrawn(address miner, bytes32 root, uint32 index) external view returns (bool) {
        return _isDrawn(_known(miner, root, index), miner, root, index);
    }

    /// @inheritdoc IBatches
    function isTaken(address miner, bytes32 root, uint32 index) external view returns (bool) {
        return _taken[_batchKey(miner, root)][index >> 8] & _bit(index) != 0;
    }

    /// @inheritdoc IBatches
    function batchOf(address miner, bytes32 root) external view returns (Batch memory) {
        return _batches[_batchKey(miner, root)];
    }

    /// @inheritdoc IBatches
    function refreshRate(address miner) public returns (uint32 ratePpm) {
        ratePpm = scores.rateOf(miner);
        _rates[miner] = ratePpm;
    }

    function _take(address miner, bytes32 root, uint32 index) private returns (Batch memory batch) {
        if (msg.sender != auditor) revert NotAuditor(msg.sender);
        batch = _known(miner, root, index);
        if (!_isDrawn(batch, miner, root, index)) revert NotDrawn(root, index);
        mapping(uint256 word => uint256) storage taken = _taken[_batchKey(miner, root)];
        uint256 word = taken[index >> 8];
        if (word & _bit(index) != 0) revert AlreadyTaken(root, index);
        taken[index >> 8] = word | _bit(index);
    }

    function _known(address miner, bytes32 root, uint32 index) private view returns (Batch memory batch) {
        batch = _batches[_batchKey(miner, root)];
        if (batch.count == 0) revert BatchUnknown(root);
        if (index >= batch.count) revert NotIncluded(root, index);
    }

    function _isDrawn(Batch memory batch, address miner, bytes32 root, uint32 index) private view returns (bool) {
        bytes32 random = keccak256(abi.encode(guards.knownBeacon(batch.epoch), miner, root, index));
        return uint256(random) % ALL_PPM < batch.ratePpm;
    }

    function _batchKey(address miner, bytes32 root) private pure returns (bytes32) {
        return keccak256(abi.encode(miner, root));
    }

    function _bit(uint32 index) private pure returns (uint256) {
        // forge-lint: disable-next-line(incorrect-shift)
        return 1 << (index & 0xff);
    }
}

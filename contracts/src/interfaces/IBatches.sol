// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IGuards} from "./IGuards.sol";
import {IScores} from "./IScores.sol";

/// @title Which receipts miners committed to, which of them the beacons drew, and which of those were shown
/// @notice A miner commits to its receipts in batches before anybody knows which will be audited. The beacon of the batch's epoch
/// draws some. Each receipt that is drawn is taken once: shown for an audit, or reported as missing.
/// @dev Must know `Audits` as its auditor, which alone takes receipts out of batches. Holds no money.
interface IBatches {
    /// @notice One batch of receipts, as a miner committed to it.
    /// @param count how many receipts
    /// @param epoch the epoch whose beacon draws
    /// @param ratePpm the audit rate of this miner at that time
    /// @param committedAt when
    struct Batch {
        uint32 count;
        uint32 epoch;
        uint32 ratePpm;
        uint40 committedAt;
    }

    /// @notice A miner committed to a batch; `batchOf` tells the rest. Short, because every request served pays for it.
    event BatchCommitted(address indexed miner, bytes32 root, uint32 count);
    event AuditorChanged(address auditor);

    error NotAuditor(address caller);
    error MinerInactive(address miner);
    error BatchInvalid(uint32 count);
    error BatchKnown(bytes32 root);
    error BatchUnknown(bytes32 root);
    error NotIncluded(bytes32 root, uint32 index);
    error NotDrawn(bytes32 root, uint32 index);
    error AlreadyTaken(bytes32 root, uint32 index);
    error ZeroAddress();

    /// @notice Commits the caller, an active miner, to a batch of receipts.
    /// @param root Merkle root over `keccak256(0x00 || receipt digest)`
    /// @param count at most `MAX_COUNT`, so that anybody can look what was drawn
    function commit(bytes32 root, uint32 count) external;

    /// @notice Brings the rate that `commit` notes for a miner up to date. Anyone may.
    function refreshRate(address miner) external returns (uint32 ratePpm);

    /// @notice Takes a receipt that was drawn and is shown. Only the auditor.
    /// @param item the receipt's digest, which stands at `index` under `root`
    function take(address miner, bytes32 root, uint32 index, bytes32 item, bytes32[] calldata path)
        external
        returns (Batch memory);

    /// @notice Takes a receipt that was drawn and that nobody has shown. Only the auditor, which knows when it is time for that.
    function takeMissing(address miner, bytes32 root, uint32 index) external returns (Batch memory);

    /// @notice Names the contract that takes receipts: `Audits`. Only governance.
    function setAuditor(address auditor) external;

    /// @notice A batch; all zero where there is none.
    function batchOf(address miner, bytes32 root) external view returns (Batch memory);

    /// @notice Whether the beacon drew one receipt of a batch:
    /// `uint256(keccak256(abi.encode(beacon, miner, root, index))) % 1,000,000 < rate`.
    function isDrawn(address miner, bytes32 root, uint32 index) external view returns (bool);

    /// @notice Whether a drawn receipt was shown or reported as missing.
    function isTaken(address miner, bytes32 root, uint32 index) external view returns (bool);

    /// @notice The contract that takes receipts.
    function auditor() external view returns (address);

    /// @notice Where time and randomness come from.
    function guards() external view returns (IGuards);

    /// @notice Where audit rates come from.
    function scores() external view returns (IScores);
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IBatches} from "./IBatches.sol";
import {ICourt} from "./ICourt.sol";
import {IGuards} from "./IGuards.sol";
import {IReceipts} from "./IReceipts.sol";
import {IScores} from "./IScores.sol";

/// @title Audits of what miners answered, and what follows from them
/// @notice Miners commit to their receipts in `Batches`. The beacon of the epoch draws some of them, and for each a guard; the guard
/// computes the answer again, commits to what it found and reveals it. Committees of 3, 7 and 21 other guards follow where
/// the finding would change a miner's state, or where somebody appeals with a bond. Only what is settled counts in `Scores`. An
/// audit is named by the digest of its receipt, so that no receipt is audited twice. Times are seconds, evidence 1/65,536 bit.
/// @dev Must be named as the auditor in `Scores` and `Court`. Bonds are approved to `Court`, which holds all money.
interface IAudits is IReceipts {
    /// @notice The life of an audit.
    /// @dev Waiting: for the beacon that draws the next committee. Gathering: findings. Decided: the appeal window runs.
    /// Settled: in the scores. Void: no committee could agree; nothing counts. Planted: it was a trap for guards.
    enum Status {
        None,
        Waiting,
        Gathering,
        Decided,
        Settled,
        Void,
        Planted
    }

    /// @notice What a drawn guard has handed in. Hard: that the structure was wrong, or the records were not shown.
    enum SeatState {
        Drawn,
        Committed,
        Revealed,
        RevealedHard
    }

    /// @notice Checked: the records were seen. NotOpened: the miner did not show them to the guard.
    enum FindingKind {
        Checked,
        NotOpened
    }

    /// @notice Where a receipt stands in a batch.
    /// @param root of the batch; its leaves are `keccak256(0x00 || receipt digest)`
    struct Inclusion {
        bytes32 root;
        uint32 index;
        bytes32[] path;
    }

    /// @notice What a guard found.
    /// @param hard the structure is wrong
    /// @param tokens how many records were checked
    /// @param bins how many of them fell into each bin of margin, log-probability difference and sketch distance; each statistic counts
    /// a record at most once
    struct Finding {
        FindingKind kind;
        bool hard;
        uint32 tokens;
        uint16[16][3] bins;
    }

    /// @notice An audit as it stands. The fields `hard`, `decidedSize`, `tokens` and `evidence`
    /// say what the last committee that agreed had decided.
    /// @param round 0 to 3: committees of 1, 3, 7, 21
    /// @param firstEpoch the epoch of the batch, or of the challenge
    /// @param epoch the epoch whose beacon draws this round
    /// @param seats how many guards were drawn in all rounds
    /// @param first the first seat of this round
    /// @param committed how many of this round have committed
    /// @param revealed how many of this round have revealed
    /// @param openedAt when
    /// @param commitUntil last second for commitments
    /// @param until last second for findings, or for appeals once decided
    /// @param exhausted there are not enough guards for a larger committee
    /// @param decidedSize size of the committee; zero while none agreed
    /// @param ratePpm the audit rate that drew it; zero for a challenge
    /// @param appealed whether an appeal runs, against the decision that `appealedHard` and `appealedEvidence` tell
    struct Audit {
        address miner;
        Status status;
        uint8 round;
        uint32 firstEpoch;
        uint32 epoch;
        uint8 seats;
        uint8 first;
        uint8 committed;
        uint8 revealed;
        uint40 openedAt;
        uint40 commitUntil;
        uint40 until;
        bool exhausted;
        bool hard;
        uint8 decidedSize;
        uint16 tokens;
        uint32 ratePpm;
        bool appealed;
        bool appealedHard;
        IScores.Weighed evidence;
        IScores.Weighed appealedEvidence;
    }

    /// @notice A drawn guard's place in an audit, in one slot: with its finding's tokens and what it weighs for each charge.
    struct Seat {
        address guard;
        uint8 round;
        SeatState state;
        uint16 tokens;
        int32 computation;
        int32 sampling;
    }

    /// @notice What governance sets.
    /// @param commitWindow for commitments, in seconds after a committee was drawn
    /// @param revealWindow for findings, in seconds after that
    /// @param appealWindow for appeals, in seconds after a decision
    /// @param openWindow for opening what a batch's beacon drew, in seconds after the batch's epoch at the latest
    /// @param challengeWindow for challenges, in seconds after the receipt's time
    /// @param minimumCommittee least size of a committee that convicts
    /// @param agreement how far from the median a guard's evidence for each charge may lie
    /// @param clip most evidence that one audit gives for each charge, either way
    /// @param hardEvidence what a wrong structure weighs, for both charges
    /// @param badEvidence from this evidence for either charge on an answer counts as bad for challenges and traps
    struct Parameters {
        uint32 commitWindow;
        uint32 revealWindow;
        uint32 appealWindow;
        uint32 openWindow;
        uint32 challengeWindow;
        uint8 minimumCommittee;
        int32 agreement;
        int32 clip;
        int32 hardEvidence;
        int32 badEvidence;
    }

    /// @notice An audit began: of `root` at `index`, or by challenge where the root is zero.
    event AuditOpened(bytes32 indexed item, address indexed miner, bytes32 root, uint32 index);
    event CommitteeDrawn(bytes32 indexed item, uint8 indexed round, address[] guards, uint40 commitUntil, uint40 until);
    event FindingCommitted(bytes32 indexed item, address indexed guard, uint8 round, bytes32 commitment);
    event FindingRevealed(
        bytes32 indexed item, address indexed guard, uint8 round, bool hard, IScores.Weighed evidence, uint16 tokens
    );
    /// @notice A committee agreed. `until` is the last second for an appeal.
    event RoundDecided(
        bytes32 indexed item,
        uint8 indexed round,
        bool hard,
        IScores.Weighed evidence,
        uint16 tokens,
        uint8 agreeing,
        uint40 until
    );
    /// @notice A larger committee will be drawn with the beacon of `epoch`.
    event Escalated(bytes32 indexed item, uint8 indexed round, uint32 epoch);
    event AuditSettled(
        bytes32 indexed item, address indexed miner, Status status, bool hard, IScores.Weighed evidence, uint16 tokens
    );
    /// @notice A miner committed to a receipt that was drawn and showed it to nobody.
    event ReceiptMissing(address indexed miner, bytes32 root, uint32 index, address indexed reporter);
    event Challenged(bytes32 indexed item, address indexed miner, address indexed challenger, uint32 epoch);
    event Appealed(bytes32 indexed item, address indexed appellant);
    event TrapSprung(bytes32 indexed item, address indexed setter, bool bad);
    event ParametersChanged(Parameters parameters);

    error TooLate(uint256 last);
    error AuditKnown(bytes32 item);
    error WrongStatus(bytes32 item, Status status);
    error NotAssigned(bytes32 item, address guard);
    error SeatTaken(bytes32 item, address guard, SeatState state);
    error CommitmentZero();
    error CommitmentMismatch();
    error RevealTooEarly(uint40 commitUntil);
    error FindingInvalid();
    error NotDue(uint256 until);
    error NoAppeal(bytes32 item);
    error SignatureInvalid();
    error TrapUnknown(bytes32 commitment);
    error ZeroAddress();
    error ParametersOutOfBounds();

    /// @notice Opens the audit of a receipt that the beacon drew, and draws its guard. Anyone may, within the open window.
    /// @dev Where no guard can be drawn the audit is void at once. Where the receipt was challenged before, its audit goes on.
    /// @param commitment the caller's, when it is the guard that is drawn; zero otherwise
    function openAudit(Receipt calldata receipt, Inclusion calldata inclusion, bytes32 commitment) external;

    /// @notice Reports a receipt that the beacon drew and that nobody opened within the open window. Anyone may, once a receipt. It
    /// costs the miner a part of its stake, of which the caller has a share, and counts against it: `IScores.recordMissing`.
    /// @dev To record the beacon, where nobody else has, is a miner's own duty.
    function reportMissing(address miner, bytes32 root, uint32 index) external;

    /// @notice Opens the audit of any receipt that a miner signed, committed or not, for a bond. Guards are drawn with the
    /// beacon of the running epoch, which nobody knows yet.
    /// @dev A miner could sign any time; whoever takes a receipt as delivery checks that it is the present one.
    function challenge(Receipt calldata receipt, bytes calldata signature) external;

    /// @notice Draws the committee that an audit waits for, once its beacon is recorded. Anyone may.
    /// @dev Guards of earlier rounds, and all that share an account with them or the miner, are left out. Where there are not
    /// more guards left than the last committee had, its decision stands; without one the audit is void.
    function draw(bytes32 item) external;

    /// @notice Commits the caller, a guard of the running round, to its finding:
    /// `keccak256(abi.encode(guard, item, round, finding, salt))`.
    function commitFinding(bytes32 item, bytes32 commitment) external;

    /// @notice Reveals what the caller committed to, once all have committed or the time for it is over.
    function revealFinding(Receipt calldata receipt, Finding calldata finding, bytes32 salt) external;

    /// @notice Decides a round once all have revealed or the time is over; called again after the appeal window, settles the audit.
    /// Anyone may.
    function settle(Receipt calldata receipt) external;

    /// @notice Has a larger committee drawn against a decision, for a bond. Anyone, within the appeal window.
    function appeal(bytes32 item) external;

    /// @notice Shows, after the guards revealed and before the audit settles, that it was planted by the caller (`ICourt.plant`) before
    /// it was opened: `keccak256(abi.encode(setter, item, bad, salt))`. Guards
    /// whose finding was expected are paid, others lose the trap penalty, and nothing counts in the scores.
    function springTrap(bytes32 item, bool bad, bytes32 salt) external;

    /// @notice Changes the parameters. Only governance; bounded by constants, and by the registry's unbonding delay.
    function setParameters(Parameters calldata next) external;

    /// @notice The guards of one round of an audit: those that were drawn, or those that would be if `draw` were called now.
    function assigned(bytes32 item, uint8 round) external view returns (address[] memory);

    /// @notice The guard that opening the audit of a drawn receipt would find; zero where there is none.
    function assignedFirst(address miner, bytes32 root, bytes32 item) external view returns (address);

    /// @notice An audit; all zero where there is none.
    function audit(bytes32 item) external view returns (Audit memory);

    /// @notice The guards of all rounds of an audit, in the order of rounds.
    function seats(bytes32 item) external view returns (Seat[] memory);

    /// @notice What miners committed to, and what was drawn.
    function batches() external view returns (IBatches);

    /// @notice Where time, randomness and guards come from.
    function guards() external view returns (IGuards);

    /// @notice Who holds bonds, pays and slashes.
    function court() external view returns (ICourt);

    /// @notice Where evidence is kept.
    function scores() external view returns (IScores);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SessionId} from "../types/SessionId.sol";
import {IReceipts} from "./IReceipts.sol";

/// @title The guards' pool, bonds, and what wrongdoing costs
/// @notice Holds the money of audits: pays guards, keeps bonds, splits what is slashed. A miner that contradicts itself under its own
/// signature is slashed here by anybody's proof, without any committee. All amounts are wei of COR.
/// @dev Must be authorised as a slasher in the node registry and named as the court in `Scores`.
interface ICourt is IReceipts {
    /// @notice Why a bond was laid down. One of each an audit.
    enum BondKind {
        Challenge,
        Appeal
    }

    /// @notice What became of a guard's finding.
    enum Service {
        Agreed,
        Failed,
        FailedTrap
    }

    /// @notice What an audit rate buys a client, at a given fee.
    /// @param ratePpm part of the miner's receipts that is audited
    /// @param detectionPpm chance that an audit of a cheat finds it
    /// @param collusionPpm part of the guards that is assumed to side with the cheat
    /// @param atStake what a conviction takes from this miner
    /// @param expectedLoss what cheating on one request costs on average: rate * detection * (1 - collusion) * (fee + stake);
    /// where it exceeds what the cheat saves, cheating does not pay
    struct Guarantee {
        uint32 ratePpm;
        uint32 detectionPpm;
        uint32 collusionPpm;
        uint128 atStake;
        uint256 expectedLoss;
    }

    /// @notice What governance sets.
    /// @param traceTolerance rounding that a contradiction must exceed, in 1/1024 nat
    /// @param detectionPpm what calibration has shown; for `guarantee`
    /// @param collusionPpm what is assumed; for `guarantee`
    /// @param contradictionSlashBps part of its stake that a contradiction costs
    /// @param committeeSlashBps part of its stake that a conviction by committee costs
    /// @param burnBps part of a slash that is burnt
    /// @param clientBps part of a slash for the client
    /// @param poolBps part of a slash for the guards' pool
    /// @param reporterBps part of a slash for who challenged or proved it; the pool's where nobody did
    /// @param challengedBps part of a lost challenge bond for the miner; the pool has the rest
    /// @param guardPay for each finding in agreement with the outcome, as far as the pool reaches
    /// @param guardPenalty for no finding, or one outside
    /// @param trapPenalty for failing a trap; at least `MIN_TRAP_FACTOR` times the pay
    /// @param appealBond lost unless a larger committee overturns
    /// @param challengeBond lost unless the answer is found bad
    /// @param missingPenalty what each receipt that was drawn and not shown costs its miner
    struct Parameters {
        uint16 traceTolerance;
        uint32 detectionPpm;
        uint32 collusionPpm;
        uint16 contradictionSlashBps;
        uint16 committeeSlashBps;
        uint16 burnBps;
        uint16 clientBps;
        uint16 poolBps;
        uint16 reporterBps;
        uint16 challengedBps;
        uint96 guardPay;
        uint96 guardPenalty;
        uint96 trapPenalty;
        uint96 appealBond;
        uint96 challengeBond;
        uint96 missingPenalty;
    }

    /// @notice `malformed`: the records had no canonical form; otherwise the chosen token loses by the miner's own numbers.
    event ContradictionProven(
        bytes32 indexed item,
        address indexed miner,
        address indexed reporter,
        bool malformed,
        uint32 window,
        uint32 position
    );
    event MinerSlashed(
        bytes32 indexed item,
        address indexed miner,
        uint128 slashed,
        uint128 burnt,
        uint128 toClient,
        uint128 toReporter,
        uint128 toPool
    );
    event GuardPaid(bytes32 indexed item, address indexed guard, uint256 amount);
    event GuardPenalised(bytes32 indexed item, address indexed guard, Service service, uint128 taken);
    event BondTaken(bytes32 indexed item, BondKind indexed kind, address indexed account, uint96 amount);
    event BondReturned(bytes32 indexed item, BondKind indexed kind, address indexed account, uint96 amount);
    event BondLost(bytes32 indexed item, BondKind indexed kind, address indexed account, uint96 amount);
    event Funded(address indexed from, uint256 amount);
    event Withdrawn(address indexed account, uint256 amount);
    event Planted(address indexed setter, bytes32 commitment);
    event TrapSetterChanged(address indexed setter, bool authorised);
    event AuditorChanged(address auditor);
    event TreasuryChanged(address treasury);
    event ParametersChanged(Parameters parameters);

    error NotAuditor(address caller);
    error SignatureInvalid();
    error HeaderMismatch();
    error SamplingMismatch();
    error TierNotJudged(uint8 tier);
    error SamplingNotJudged();
    error AlreadyProven(bytes32 item);
    error NoContradiction();
    error NotTrapSetter(address caller);
    error TrapKnown(bytes32 commitment);
    error TooMany(uint256 length);
    error BondStanding(bytes32 item, BondKind kind);
    error ZeroAmount();
    error ZeroAddress();
    error NothingToWithdraw(address account);
    error ParametersOutOfBounds();

    /// @notice Slashes a miner by its own signature: the record's alternatives and the seed say that another token had won, or
    /// the records have no canonical form. Once a receipt; only tier A, where the miner itself draws by the rule.
    /// @dev Anything that is not a contradiction reverts, and its sender has paid the gas.
    /// @param salt of the caller's announcement in an earlier block. Without one the miner is slashed all the same, and the
    /// reporter's part is the pool's: who copies a proof out of the mempool earns nothing.
    function proveContradiction(Opening calldata opening, bytes32 salt) external;

    /// @notice Announces a proof without showing what it is about: `keccak256(abi.encode(item, reporter, salt))`. Anyone may.
    function announce(bytes32 commitment) external;

    /// @notice Commits to the expected outcomes of audits to come, `keccak256(abi.encode(setter, item, bad, salt))` each, so that guards
    /// cannot tell a trap from any other audit. Only trap setters; `IAudits.springTrap` shows what it was.
    function plant(bytes32[] calldata commitments) external;

    /// @notice Adds the caller's tokens to the pool that guards are paid from.
    function fund(uint128 amount) external;

    /// @notice Pays out an account's whole balance to that account. Anyone may call.
    function withdraw(address account) external returns (uint256 amount);

    /// @notice Pays a guard what the pool has of its pay, or takes the penalty from its stake. Only the auditor.
    function reward(bytes32 item, address guard, Service service) external;

    /// @notice Takes the bond of its kind from an account, which has approved it to this contract. Only the auditor.
    function takeBond(bytes32 item, BondKind kind, address account) external;

    /// @notice Returns a bond, if there is one. Only the auditor.
    function returnBond(bytes32 item, BondKind kind) external;

    /// @notice Gives a bond, if there is one, to the pool; of a challenge's a part to the miner. Only the auditor.
    function loseBond(bytes32 item, BondKind kind, address miner) external;

    /// @notice Slashes a miner that a committee convicted, unless a contradiction in the same receipt did already. Only the auditor.
    /// @dev Whoever challenged the receipt is the reporter.
    function punish(bytes32 item, address miner, SessionId session) external;

    /// @notice Takes the penalty for a receipt that was drawn and not shown: a part is burnt, a part is the reporter's, the rest the
    /// pool's, since nobody knows whose receipt it was. Only the auditor.
    /// @param missing names the receipt in the event: `keccak256(abi.encode(miner, root, index))`
    function punishMissing(bytes32 missing, address miner, address reporter) external;

    /// @notice Names or dismisses a trap setter. Only governance.
    function setTrapSetter(address setter, bool authorised) external;

    /// @notice Names the contract that decides about guards, bonds and convictions. Only governance.
    function setAuditor(address auditor) external;

    /// @notice Changes where the client's part of a slash goes when the session is unknown. Only governance.
    function setTreasury(address next) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice The digest of a receipt, which its miner signs; it names the audit.
    function itemOf(Receipt calldata receipt) external view returns (bytes32);

    /// @notice The digest of a task header, which its client signs and a receipt names.
    function headerDigest(TaskHeader calldata header) external view returns (bytes32);

    /// @notice What a miner's audits buy at a given fee.
    function guarantee(address miner, uint128 fee) external view returns (Guarantee memory);

    /// @notice Whether a contradiction was proven in a receipt.
    function isProven(bytes32 item) external view returns (bool);

    /// @notice Who laid down a bond, and how much; zero for none.
    function bondOf(bytes32 item, BondKind kind) external view returns (address account, uint96 amount);

    /// @notice When a trap was committed to; zero for never.
    function plantedAt(bytes32 commitment) external view returns (uint256);

    /// @notice The block in which a proof was announced; zero for never.
    function announcedIn(bytes32 commitment) external view returns (uint256);

    /// @notice Whether an account may set traps.
    function isTrapSetter(address account) external view returns (bool);

    /// @notice What guards are paid from.
    function pool() external view returns (uint256);

    /// @notice What all standing bonds amount to.
    function bonds() external view returns (uint256);

    /// @notice What an account can withdraw.
    function balanceOf(address account) external view returns (uint256);

    /// @notice The contract that decides about guards, bonds and convictions.
    function auditor() external view returns (address);

    /// @notice Where the client's part of a slash goes when the session is unknown.
    function treasury() external view returns (address);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}

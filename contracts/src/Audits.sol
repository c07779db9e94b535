// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SignedMath} from "@openzeppelin/contracts/utils/math/SignedMath.sol";
import {IAudits} from "./interfaces/IAudits.sol";
import {IBatches} from "./interfaces/IBatches.sol";
import {ICourt} from "./interfaces/ICourt.sol";
import {IGuards} from "./interfaces/IGuards.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IScores} from "./interfaces/IScores.sol";
import {Messages} from "./libraries/Messages.sol";
import {Traces} from "./libraries/Traces.sol";
import {SessionId} from "./types/SessionId.sol";

/// @title Audits
/// @dev Holds no money. Calls batches, guards, court and scores only, which are trusted; an audit's status is changed before them.
contract Audits is IAudits, Ownable2Step {
    uint32 public constant MAX_WINDOW = 30 days;
    /// @dev 64 bits.
    int32 public constant MAX_EVIDENCE = 64 << 16;
    uint8 private constant LAST_ROUND = 3;
    uint8 private constant MAX_COMMITTEE = 21;
    uint8 private constant TIER_B = 2;
    uint32 private constant ALL_PPM = 1_000_000;

    /// @notice Whose delay before stakes leave bounds all windows.
    INodeRegistry public immutable nodeRegistry;
    /// @notice Under whose domain receipts are signed.
    address public immutable sessions;
    /// @inheritdoc IAudits
    IBatches public immutable batches;
    /// @inheritdoc IAudits
    IGuards public immutable guards;
    /// @inheritdoc IAudits
    IScores public immutable scores;
    /// @inheritdoc IAudits
    ICourt public immutable court;
    // As `guards` has them.
    uint32 private immutable _EPOCH_LENGTH;
    uint64 private immutable _GENESIS;

    Parameters private _parameters;
    mapping(bytes32 item => Audit) private _audits;
    mapping(bytes32 item => mapping(uint256 index => Seat)) private _seats;
    /// @dev By item and seat.
    mapping(bytes32 seat => bytes32) private _commitments;

    constructor(
        INodeRegistry nodeRegistry_,
        address sessions_,
        IBatches batches_,
        ICourt court_,
        address initialOwner,
        Parameters memory initialParameters
    ) Ownable(initialOwner) {
        if (
            address(nodeRegistry_) == address(0) || sessions_ == address(0) || address(batches_) == address(0)
                || address(court_) == address(0)
        ) revert ZeroAddress();
        nodeRegistry = nodeRegistry_;
        sessions = sessions_;
        batches = batches_;
        (guards, scores) = (batches_.guards(), batches_.scores());
        court = court_;
        _EPOCH_LENGTH = guards.epochLength();
        _GENESIS = guards.genesis();
        _setParameters(initialParameters);
    }

    /// @inheritdoc IAudits
    function openAudit(Receipt calldata receipt, Inclusion calldata inclusion, bytes32 commitment) external {
        bytes32 item = _itemOf(receipt);
        IBatches.Batch memory batch = batches.take(receipt.miner, inclusion.root, inclusion.index, item, inclusion.path);
        uint256 last = _lastOpening(batch);
        if (block.timestamp > last) revert TooLate(last);
        // Where the receipt was challenged before, this shows that its miner does not hide it.
        if (_audits[item].status == Status.None) {
            _begin(item, receipt.miner, batch.epoch, batch.ratePpm);
            emit AuditOpened(item, receipt.miner, inclusion.root, inclusion.index);
            // Where there is nobody to judge, nobody is guilty.
            if (!_drawCommittee(item)) _void(item, _audits[item]);
        }
        if (commitment != bytes32(0)) _commitFinding(item, commitment);
    }

    /// @inheritdoc IAudits
    function reportMissing(address miner, bytes32 root, uint32 index) external {
        IBatches.Batch memory batch = batches.takeMissing(miner, root, index);
        uint256 last = _lastOpening(batch);
        if (block.timestamp <= last) revert NotDue(last);
        bytes32 missing = keccak256(abi.encode(miner, root, index));
        emit ReceiptMissing(miner, root, index, msg.sender);
        bool convicted = scores.recordMissing(miner, batch.committedAt);
        batches.refreshRate(miner);
        court.punishMissing(missing, miner, msg.sender);
        if (convicted) court.punish(missing, miner, SessionId.wrap(0));
    }

    /// @inheritdoc IAudits
    function challenge(Receipt calldata receipt, bytes calldata signature) external {
        bytes32 item = _itemOf(receipt);
        if (_audits[item].status != Status.None) revert AuditKnown(item);
        uint256 last = uint256(receipt.finishedAt) + _parameters.challengeWindow;
        if (block.timestamp > last) revert TooLate(last);
        (address signer, ECDSA.RecoverError failure,) = ECDSA.tryRecoverCalldata(item, signature);
        if (failure != ECDSA.RecoverError.NoError || signer != receipt.miner) revert SignatureInvalid();
        uint32 epoch = _epoch();
        _begin(item, receipt.miner, epoch, 0);
        emit AuditOpened(item, receipt.miner, bytes32(0), 0);
        emit Challenged(item, receipt.miner, msg.sender, epoch);
        court.takeBond(item, ICourt.BondKind.Challenge, msg.sender);
    }

    /// @inheritdoc IAudits
    function draw(bytes32 item) external {
        Audit storage state = _requireStatus(item, Status.Waiting);
        if (_drawCommittee(item)) return;
        if (state.decidedSize == 0) {
            _void(item, state);
        } else {
            // Nobody larger can judge: what the last committee decided stands.
            state.exhausted = true;
            _returnBond(item, ICourt.BondKind.Appeal);
            _setDecided(item, state, 0);
        }
    }

    /// @inheritdoc IAudits
    function commitFinding(bytes32 item, bytes32 commitment) external {
        if (commitment == bytes32(0)) revert CommitmentZero();
        _commitFinding(item, commitment);
    }

    /// @inheritdoc IAudits
    function revealFinding(Receipt calldata receipt, Finding calldata finding, bytes32 salt) external {
        bytes32 item = _itemOf(receipt);
        Audit storage state = _requireStatus(item, Status.Gathering);
        if (block.timestamp > state.until) revert TooLate(state.until);
        if (block.timestamp <= state.commitUntil && state.committed < state.seats - state.first) {
            revert RevealTooEarly(state.commitUntil);
        }
        uint256 index = _seatOf(item, state, msg.sender);
        Seat storage seat = _seats[item][index];
        if (seat.state != SeatState.Committed) revert SeatTaken(item, msg.sender, seat.state);
        bytes32 key = _seatKey(item, index);
        bytes32 commitment = keccak256(abi.encode(msg.sender, item, state.round, finding, salt));
        if (_commitments[key] != commitment) revert CommitmentMismatch();
        delete _commitments[key];

        _requireConsistent(receipt, finding);
        bool hard = finding.hard || finding.kind == FindingKind.NotOpened;
        seat.state = hard ? SeatState.RevealedHard : SeatState.Revealed;
        IScores.Weighed memory evidence;
        if (!hard) evidence = _weigh(receipt, state.firstEpoch, finding);
        (seat.computation, seat.sampling) = (evidence.computation, evidence.sampling);
        // Clamped to 16 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        seat.tokens = finding.kind == FindingKind.Checked ? uint16(Math.min(finding.tokens, type(uint16).max)) : 0;
        ++state.revealed;
        emit FindingRevealed(item, msg.sender, state.round, hard, evidence, seat.tokens);
    }

    /// @inheritdoc IAudits
    function settle(Receipt calldata receipt) external {
        bytes32 item = _itemOf(receipt);
        Audit storage state = _audits[item];
        if (state.status == Status.Gathering) {
            if (!_isGathered(state)) revert NotDue(state.until);
            _decide(item, state);
        } else if (state.status == Status.Decided) {
            if (block.timestamp <= state.until) revert NotDue(state.until);
            _settle(item, state, receipt);
        } else {
            revert WrongStatus(item, state.status);
        }
    }

    /// @inheritdoc IAudits
    function appeal(bytes32 item) external {
        Audit storage state = _requireStatus(item, Status.Decided);
        if (block.timestamp > state.until || state.exhausted || state.round == LAST_ROUND) revert NoAppeal(item);
        (state.appealed, state.appealedHard, state.appealedEvidence) = (true, state.hard, state.evidence);
        emit Appealed(item, msg.sender);
        _escalate(item, state);
        court.takeBond(item, ICourt.BondKind.Appeal, msg.sender);
    }

    /// @inheritdoc IAudits
    function springTrap(bytes32 item, bool bad, bytes32 salt) external {
        Audit storage state = _audits[item];
        bytes32 commitment = keccak256(abi.encode(msg.sender, item, bad, salt));
        uint256 plantedAt = court.plantedAt(commitment);
        if (plantedAt == 0 || plantedAt >= state.openedAt) revert TrapUnknown(commitment);
        bool revealed = state.status == Status.Decided || (state.status == Status.Waiting && state.seats != 0)
            || (state.status == Status.Gathering && _isGathered(state));
        if (!revealed) revert WrongStatus(item, state.status);
        emit TrapSprung(item, msg.sender, bad);
        _close(item, state, Status.Planted);
        _returnBonds(item);
        uint256 count = state.seats;
        for (uint256 i; i < count; ++i) {
            Seat memory seat = _seats[item][i];
            bool foundBad = _isBad(seat.state == SeatState.RevealedHard, _evidenceOf(seat));
            if (!_hasRevealed(seat)) _reward(item, seat.guard, ICourt.Service.Failed);
            else _reward(item, seat.guard, foundBad == bad ? ICourt.Service.Agreed : ICourt.Service.FailedTrap);
        }
    }

    /// @inheritdoc IAudits
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IAudits
    function assigned(bytes32 item, uint8 round) external view returns (address[] memory drawn) {
        Audit storage state = _audits[item];
        if (state.status == Status.Waiting && state.round == round) {
            return _committee(item, state.miner, round, state.epoch, state.seats);
        }
        drawn = new address[](state.seats);
        uint256 found = 0;
        for (uint256 i; i < state.seats; ++i) {
            Seat memory seat = _seats[item][i];
            if (seat.round == round) drawn[found++] = seat.guard;
        }
        assembly ("memory-safe") {
            mstore(drawn, found)
        }
    }

    /// @inheritdoc IAudits
    function assignedFirst(address miner, bytes32 root, bytes32 item) external view returns (address) {
        address[] memory drawn = _committee(item, miner, 0, batches.batchOf(miner, root).epoch, 0);
        return drawn.length == 0 ? address(0) : drawn[0];
    }

    /// @inheritdoc IAudits
    function audit(bytes32 item) external view returns (Audit memory) {
        return _audits[item];
    }

    /// @inheritdoc IAudits
    function seats(bytes32 item) external view returns (Seat[] memory all) {
        all = new Seat[](_audits[item].seats);
        for (uint256 i; i < all.length; ++i) {
            all[i] = _seats[item][i];
        }
    }

    /// @inheritdoc IAudits
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    // --- rounds ---

    function _begin(bytes32 item, address miner, uint32 epoch, uint32 ratePpm) private {
        Audit storage state = _audits[item];
        state.miner = miner;
        state.status = Status.Waiting;
        state.firstEpoch = epoch;
        state.epoch = epoch;
        state.openedAt = uint40(block.timestamp);
        state.ratePpm = ratePpm;
    }

    /// @return found whether there are guards enough for the round; otherwise nothing was changed
    function _drawCommittee(bytes32 item) private returns (bool found) {
        Audit storage state = _audits[item];
        (uint8 round, uint8 first) = (state.round, state.seats);
        address[] memory drawn = _committee(item, state.miner, round, state.epoch, first);
        // Only a larger committee is heard after another.
        if (drawn.length <= first - state.first) return false;
        // 32 guards in all rounds together.
        // forge-lint: disable-next-line(unsafe-typecast)
        (state.first, state.seats) = (first, first + uint8(drawn.length));
        (state.committed, state.revealed) = (0, 0);
        state.status = Status.Gathering;
        uint40 commitUntil = uint40(block.timestamp) + _parameters.commitWindow;
        uint40 until = commitUntil + _parameters.revealWindow;
        (state.commitUntil, state.until) = (commitUntil, until);
        for (uint256 i; i < drawn.length; ++i) {
            Seat storage seat = _seats[item][first + i];
            (seat.guard, seat.round) = (drawn[i], round);
        }
        emit CommitteeDrawn(item, round, drawn, commitUntil, until);
        return true;
    }

    /// @dev Neither the miner nor a guard of an earlier round may be among them.
    function _committee(bytes32 item, address miner, uint8 round, uint32 epoch, uint256 seated)
        private
        view
        returns (address[] memory)
    {
        bytes32 seed = keccak256(abi.encode(guards.knownBeacon(epoch), item, round));
        address[] memory known = new address[](1 + seated);
        known[0] = miner;
        for (uint256 i; i < seated; ++i) {
            known[i + 1] = _seats[item][i].guard;
        }
        return guards.draw(seed, epoch, known, _sizeOf(round));
    }

    function _commitFinding(bytes32 item, bytes32 commitment) private {
        Audit storage state = _requireStatus(item, Status.Gathering);
        if (block.timestamp > state.commitUntil) revert TooLate(state.commitUntil);
        uint256 index = _seatOf(item, state, msg.sender);
        Seat storage seat = _seats[item][index];
        if (seat.state != SeatState.Drawn) revert SeatTaken(item, msg.sender, seat.state);
        seat.state = SeatState.Committed;
        _commitments[_seatKey(item, index)] = commitment;
        ++state.committed;
        emit FindingCommitted(item, msg.sender, state.round, commitment);
    }

    /// @dev Two thirds of the committee, absent guards included, must find the same.
    function _decide(bytes32 item, Audit storage state) private {
        (bool hard, IScores.Weighed memory evidence, uint16 tokens, uint8 agreeing) = _consensus(item, state);
        uint8 size = state.seats - state.first;
        if (uint256(agreeing) * 3 < uint256(size) * 2) {
            state.decidedSize = 0;
            if (state.round < LAST_ROUND) _escalate(item, state);
            else _void(item, state);
            return;
        }
        (state.hard, state.evidence, state.tokens, state.decidedSize) = (hard, evidence, tokens, size);
        _resolveAppeal(item, state);
        if (state.round < scores.roundNeeded(state.miner, evidence, hard)) _escalate(item, state);
        else _setDecided(item, state, agreeing);
    }

    function _setDecided(bytes32 item, Audit storage state, uint8 agreeing) private {
        state.status = Status.Decided;
        // Also where no appeal is possible any more: until then it may turn out to have been a trap.
        state.until = uint40(block.timestamp) + _parameters.appealWindow;
        emit RoundDecided(item, state.round, state.hard, state.evidence, state.tokens, agreeing, state.until);
    }

    function _escalate(bytes32 item, Audit storage state) private {
        state.status = Status.Waiting;
        state.epoch = _epoch();
        emit Escalated(item, ++state.round, state.epoch);
    }

    /// @dev What the round's guards found: a wrong structure, or for each charge the median of their evidence, and how many lie close
    /// to both.
    function _consensus(bytes32 item, Audit storage state)
        private
        view
        returns (bool hard, IScores.Weighed memory median, uint16 tokens, uint8 agreeing)
    {
        (Seat[] memory found, uint256 hards) = _findings(item, state);
        // Sizes are at most 21.
        // forge-lint: disable-start(unsafe-typecast)
        if (hards > found.length) return (true, _both(_parameters.hardEvidence), 0, uint8(hards));
        if (found.length == 0) return (false, median, 0, 0);
        median = IScores.Weighed(_median(found, false), _median(found, true));
        tokens = type(uint16).max;
        for (uint256 i; i < found.length; ++i) {
            if (!_isClose(_evidenceOf(found[i]), median)) continue;
            ++agreeing;
            tokens = uint16(Math.min(tokens, found[i].tokens));
        }
        // forge-lint: disable-end(unsafe-typecast)
    }

    /// @return found the round's findings without a wrong structure
    /// @return hards how many found one
    function _findings(bytes32 item, Audit storage state) private view returns (Seat[] memory found, uint256 hards) {
        (uint256 first, uint256 end) = (state.first, state.seats);
        found = new Seat[](end - first);
        uint256 length = 0;
        for (uint256 i = first; i < end; ++i) {
            Seat memory seat = _seats[item][i];
            if (seat.state == SeatState.RevealedHard) ++hards;
            if (seat.state == SeatState.Revealed) found[length++] = seat;
        }
        assembly ("memory-safe") {
            mstore(found, length)
        }
    }

    /// @dev Of two in the middle the lower: in doubt for the miner. At least one finding and at most 21.
    function _median(Seat[] memory found, bool sampling) private pure returns (int32) {
        int32[] memory sorted = new int32[](found.length);
        for (uint256 i; i < found.length; ++i) {
            int32 bits = sampling ? found[i].sampling : found[i].computation;
            uint256 place = i;
            for (; place > 0 && sorted[place - 1] > bits; --place) {
                sorted[place] = sorted[place - 1];
            }
            sorted[place] = bits;
        }
        return sorted[(sorted.length - 1) / 2];
    }

    // --- endings ---

    function _settle(bytes32 item, Audit storage state, Receipt calldata receipt) private {
        _close(item, state, Status.Settled);
        (address miner, bool hard, IScores.Weighed memory evidence) = (state.miner, state.hard, state.evidence);
        bool mayConvict = state.decidedSize >= _parameters.minimumCommittee && (hard || receipt.tier >= TIER_B);
        (, bool convicted) = scores.record(miner, evidence, _tokensServed(state), hard, mayConvict);
        batches.refreshRate(miner);
        uint256 count = state.seats;
        for (uint256 i; i < count; ++i) {
            Seat memory seat = _seats[item][i];
            bool foundHard = seat.state == SeatState.RevealedHard;
            bool agrees = _hasRevealed(seat) && foundHard == hard && (hard || _isClose(_evidenceOf(seat), evidence));
            _reward(item, seat.guard, agrees ? ICourt.Service.Agreed : ICourt.Service.Failed);
        }
        if (convicted) court.punish(item, miner, receipt.session);
        if (_isBad(hard, evidence)) _returnBond(item, ICourt.BondKind.Challenge);
        else court.loseBond(item, ICourt.BondKind.Challenge, miner);
    }

    /// @dev Where no committee agreed nobody was wrong, but those who stayed away.
    function _void(bytes32 item, Audit storage state) private {
        (state.hard, state.evidence, state.tokens, state.decidedSize) = (false, _both(0), 0, 0);
        _close(item, state, Status.Void);
        _returnBonds(item);
        uint256 count = state.seats;
        for (uint256 i; i < count; ++i) {
            Seat memory seat = _seats[item][i];
            if (!_hasRevealed(seat)) _reward(item, seat.guard, ICourt.Service.Failed);
        }
    }

    function _close(bytes32 item, Audit storage state, Status status) private {
        state.status = status;
        emit AuditSettled(item, state.miner, status, state.hard, state.evidence, state.tokens);
    }

    function _resolveAppeal(bytes32 item, Audit storage state) private {
        if (!state.appealed) return;
        state.appealed = false;
        bool overturned = state.appealedHard != state.hard || !_isClose(state.appealedEvidence, state.evidence);
        if (overturned) _returnBond(item, ICourt.BondKind.Appeal);
        else court.loseBond(item, ICourt.BondKind.Appeal, address(0));
    }

    function _returnBonds(bytes32 item) private {
        _returnBond(item, ICourt.BondKind.Appeal);
        _returnBond(item, ICourt.BondKind.Challenge);
    }

    /// @dev One place for the call, so that its code is there once.
    function _returnBond(bytes32 item, ICourt.BondKind kind) private {
        court.returnBond(item, kind);
    }

    /// @dev The same.
    function _reward(bytes32 item, address guard, ICourt.Service service) private {
        court.reward(item, guard, service);
    }

    // --- parameters ---

    function _setParameters(Parameters memory next) private {
        if (!_areWindowsBounded(next) || !_areLevelsBounded(next)) {
            revert ParametersOutOfBounds();
        }
        _parameters = next;
        emit ParametersChanged(next);
    }

    /// @dev No stake may leave before the longest audit ends.
    function _areWindowsBounded(Parameters memory next) private view returns (bool) {
        if (
            next.commitWindow == 0 || next.commitWindow > MAX_WINDOW || next.revealWindow == 0
                || next.revealWindow > MAX_WINDOW || next.appealWindow > MAX_WINDOW || next.openWindow > MAX_WINDOW
                || next.challengeWindow > MAX_WINDOW
        ) return false;
        uint256 round = uint256(next.commitWindow) + next.revealWindow + next.appealWindow + _EPOCH_LENGTH;
        uint256 before = Math.max(uint256(next.openWindow) + _EPOCH_LENGTH, next.challengeWindow);
        return before + round * (LAST_ROUND + 1) <= nodeRegistry.unbondingDelay();
    }

    function _areLevelsBounded(Parameters memory next) private pure returns (bool) {
        return next.minimumCommittee != 0 && next.minimumCommittee <= MAX_COMMITTEE && next.agreement >= 0
            && next.agreement <= MAX_EVIDENCE && next.clip > 0 && next.clip <= MAX_EVIDENCE && next.hardEvidence > 0
            && next.hardEvidence <= MAX_EVIDENCE && next.badEvidence > 0 && next.badEvidence <= MAX_EVIDENCE;
    }

    // --- checks ---

    function _requireConsistent(Receipt calldata receipt, Finding calldata finding) private pure {
        if (finding.tokens > Traces.records(receipt)) revert FindingInvalid();
        for (uint256 statistic; statistic < 3; ++statistic) {
            uint256 counted = 0;
            for (uint256 bin; bin < 16; ++bin) {
                counted += finding.bins[statistic][bin];
            }
            if (counted > finding.tokens) revert FindingInvalid();
        }
    }

    function _requireStatus(bytes32 item, Status status) private view returns (Audit storage state) {
        state = _audits[item];
        if (state.status != status) revert WrongStatus(item, state.status);
    }

    function _seatOf(bytes32 item, Audit storage state, address guard) private view returns (uint256) {
        for (uint256 i = state.first; i < state.seats; ++i) {
            if (_seats[item][i].guard == guard) return i;
        }
        revert NotAssigned(item, guard);
    }

    /// @dev What was checked stands for the tokens that were served and not drawn, so that being audited more earns no more. A
    /// challenge draws nothing, so that nobody raises its own score by challenging itself.
    function _tokensServed(Audit storage state) private view returns (uint64) {
        uint32 ratePpm = state.ratePpm;
        // 16 bits times a million.
        // forge-lint: disable-next-line(unsafe-typecast)
        return ratePpm == 0 ? 0 : uint64(uint256(state.tokens) * ALL_PPM / ratePpm);
    }

    function _lastOpening(IBatches.Batch memory batch) private view returns (uint256) {
        return uint256(batch.committedAt) + _EPOCH_LENGTH + _parameters.openWindow;
    }

    function _weigh(Receipt calldata receipt, uint32 epoch, Finding calldata finding)
        private
        view
        returns (IScores.Weighed memory)
    {
        (bytes32 minerClass, bytes32 guardClass) =
            (guards.classAt(receipt.miner, epoch), guards.classAt(msg.sender, epoch));
        return scores.weigh(receipt.model, minerClass, guardClass, finding.bins, _parameters.clip);
    }

    function _both(int32 bits) private pure returns (IScores.Weighed memory) {
        return IScores.Weighed(bits, bits);
    }

    function _evidenceOf(Seat memory seat) private pure returns (IScores.Weighed memory) {
        return IScores.Weighed(seat.computation, seat.sampling);
    }

    function _isGathered(Audit storage state) private view returns (bool) {
        uint8 awaited = block.timestamp > state.commitUntil ? state.committed : state.seats - state.first;
        return block.timestamp > state.until || state.revealed == awaited;
    }

    function _isBad(bool hard, IScores.Weighed memory evidence) private view returns (bool) {
        int256 bad = _parameters.badEvidence;
        return hard || evidence.computation >= bad || evidence.sampling >= bad;
    }

    function _isClose(IScores.Weighed memory a, IScores.Weighed memory b) private view returns (bool) {
        uint256 most = uint32(_parameters.agreement);
        return SignedMath.abs(int256(a.computation) - b.computation) <= most
            && SignedMath.abs(int256(a.sampling) - b.sampling) <= most;
    }

    function _hasRevealed(Seat memory seat) private pure returns (bool) {
        return seat.state == SeatState.Revealed || seat.state == SeatState.RevealedHard;
    }

    function _sizeOf(uint8 round) private pure returns (uint256) {
        if (round == 0) return 1;
        if (round == 1) return 3;
        return round == 2 ? 7 : MAX_COMMITTEE;
    }

    function _itemOf(Receipt calldata receipt) private view returns (bytes32) {
        return Messages.digest(sessions, Messages.hashReceipt(receipt));
    }

    function _seatKey(bytes32 item, uint256 index) private pure returns (bytes32) {
        return keccak256(abi.encode(item, index));
    }

    function _epoch() private view returns (uint32) {
        // 136 years of seconds.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32((block.timestamp - _GENESIS) / _EPOCH_LENGTH);
    }
}

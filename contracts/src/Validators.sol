// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {INodeRegistry} from "./interfaces/INodeRegistry.sol";
import {IScores} from "./interfaces/IScores.sol";
import {IStakes} from "./interfaces/IStakes.sol";
import {IValidators} from "./interfaces/IValidators.sol";
import {ValidatorSets} from "./libraries/ValidatorSets.sol";
import {VALIDATOR} from "./types/Roles.sol";

/// @title Validators
/// @dev Holds no money. Registry and scores are trusted to answer.
contract Validators is IValidators, Ownable2Step, EIP712 {
    struct Bootstrap {
        address key;
        uint64 share;
        uint32 seen;
    }

    /// @param from the first epoch that the set decides
    struct StoredSet {
        uint64 from;
        bytes32 hash;
        uint256[] members;
    }

    uint256 public constant MAX_CANDIDATES = 100;
    uint256 public constant MAX_BOOTSTRAP = 100;
    uint32 public constant MIN_EPOCH_LENGTH = 4;
    uint32 public constant MAX_EPOCH_LENGTH = 10_000_000;
    uint128 public constant MAX_BOOTSTRAP_STAKE = 1_000_000_000e18;
    uint32 public constant MAX_EPOCHS = 10_000;
    /// @dev The moving average takes an eighth of what is new.
    uint256 private constant SMOOTHING = 8;
    uint256 private constant ONE_PPM = 1_000_000;
    uint256 private constant LEAST_PPM = 250_000;
    uint256 private constant MOST_PPM = 3_000_000;
    bytes32 private constant KEY_TYPEHASH = keccak256("Key(address operator,uint256 deadline)");

    /// @notice Where validators stake.
    INodeRegistry public immutable nodeRegistry;
    /// @notice What their work was found to be.
    IScores public immutable scores;
    /// @inheritdoc IValidators
    uint32 public immutable epochLength;

    /// @notice Who proves double votes.
    address public equivocations;
    /// @notice The epoch in which a set was last fixed, plus one.
    uint64 public advancedIn;
    /// @inheritdoc IValidators
    mapping(address key => address) public operatorOf;
    /// @inheritdoc IValidators
    mapping(address account => bool) public isBanned;

    Parameters private _parameters;
    Candidate[] private _candidates;
    /// @dev Position in the list plus one.
    mapping(address operator => uint256) private _places;
    Bootstrap[] private _bootstrap;
    /// @dev Position in the list plus one.
    mapping(address key => uint256) private _bootstrapPlaces;
    StoredSet private _previous;
    StoredSet private _latest;

    /// @param keys the chain's first set, in the order of a set, as its genesis block has it
    constructor(
        INodeRegistry nodeRegistry_,
        IScores scores_,
        address initialOwner,
        uint32 epochLength_,
        address[] memory keys,
        uint64[] memory powers,
        Parameters memory initialParameters
    ) Ownable(initialOwner) EIP712("Cortensor Validators", "1") {
        if (address(nodeRegistry_) == address(0) || address(scores_) == address(0)) {
            revert ZeroAddress();
        }
        if (epochLength_ < MIN_EPOCH_LENGTH || epochLength_ > MAX_EPOCH_LENGTH) {
            revert EpochLengthOutOfBounds(epochLength_);
        }
        nodeRegistry = nodeRegistry_;
        scores = scores_;
        epochLength = epochLength_;
        _setParameters(initialParameters);
        _start(keys, powers);
    }

    /// @inheritdoc IValidators
    function join(address operator, address key, uint256 deadline, bytes calldata signature) external {
        _requireOperatorOrOwner(operator);
        if (isBanned[operator]) revert OperatorBanned(operator);
        if (!nodeRegistry.isActive(operator, VALIDATOR)) revert NotValidator(operator);
        _useKey(operator, key, deadline, signature);
        uint256 place = _places[operator];
        if (place == 0) place = _enter(operator);
        Candidate storage entry = _candidates[place - 1];
        entry.key = key;
        entry.seen = _epoch32();
        emit Joined(operator, key);
    }

    /// @inheritdoc IValidators
    function resign(address operator) external {
        _requireOperatorOrOwner(operator);
        _candidate(operator);
        _remove(operator);
    }

    /// @inheritdoc IValidators
    function unjail(address operator) external {
        _requireOperatorOrOwner(operator);
        Candidate storage entry = _candidate(operator);
        uint32 until = entry.jailedUntil;
        if (until == 0) revert NotJailed(operator);
        if (currentEpoch() < until) revert JailedUntil(until);
        entry.jailedUntil = 0;
        entry.seen = _epoch32();
        emit Unjailed(operator);
    }

    /// @inheritdoc IValidators
    function heartbeat() external {
        uint256 bootstrap = _bootstrapPlaces[msg.sender];
        if (bootstrap != 0) {
            _bootstrap[bootstrap - 1].seen = _epoch32();
            return;
        }
        address bound = operatorOf[msg.sender];
        Candidate storage entry = _candidate(bound == address(0) ? msg.sender : bound);
        if (bound != address(0) && entry.key != msg.sender) revert NotCandidate(msg.sender);
        entry.seen = _epoch32();
    }

    /// @inheritdoc IValidators
    function advance() external {
        uint64 epoch = currentEpoch();
        if (advancedIn == epoch + 1) revert AlreadyAdvanced(epoch);
        if ((block.number + 1) % epochLength == 0) revert EpochEnds();
        advancedIn = epoch + 1;
        (address[] memory keys, uint256[] memory weights) = _weights(epoch);
        uint256[] memory wanted = ValidatorSets.target(keys, weights);
        // Somebody has to decide blocks: without anyone better, those who did.
        if (wanted.length != 0) _fix(epoch + 1, ValidatorSets.glide(_latest.members, wanted));
    }

    /// @inheritdoc IValidators
    function ban(address key) external returns (address operator) {
        if (msg.sender != equivocations) revert NotEquivocations(msg.sender);
        operator = operatorOf[key];
        isBanned[key] = true;
        if (operator != address(0)) {
            isBanned[operator] = true;
            if (_places[operator] != 0) _remove(operator);
        }
        _removeBootstrap(key);
        emit Banned(operator, key);
    }

    /// @inheritdoc IValidators
    function setEquivocations(address next) external onlyOwner {
        if (next == address(0)) revert ZeroAddress();
        equivocations = next;
        emit EquivocationsChanged(next);
    }

    /// @inheritdoc IValidators
    function setParameters(Parameters calldata next) external onlyOwner {
        _setParameters(next);
    }

    /// @inheritdoc IValidators
    function currentSet() external view returns (address[] memory, uint64[] memory) {
        return setOf(currentEpoch());
    }

    /// @inheritdoc IValidators
    function setAt(uint64 height) external view returns (address[] memory, uint64[] memory) {
        return setOf(height / epochLength);
    }

    /// @inheritdoc IValidators
    function nextSetHash() external view returns (bytes32) {
        return setHashOf(uint64((block.number + 1) / epochLength));
    }

    /// @inheritdoc IValidators
    function memberOf(uint64 epoch, uint256 index) external view returns (address key, uint64 power) {
        uint256 member = _setOf(epoch).members[index];
        return (ValidatorSets.keyOf(member), ValidatorSets.powerOf(member));
    }

    /// @inheritdoc IValidators
    function candidate(address operator) external view returns (Candidate memory) {
        return _candidate(operator);
    }

    /// @inheritdoc IValidators
    function candidateCount() external view returns (uint256) {
        return _candidates.length;
    }

    /// @inheritdoc IValidators
    function candidateAt(uint256 index) external view returns (Candidate memory) {
        return _candidates[index];
    }

    /// @inheritdoc IValidators
    function bootstrapSet() external view returns (address[] memory keys, uint64[] memory shares) {
        uint256 count = _bootstrap.length;
        (keys, shares) = (new address[](count), new uint64[](count));
        for (uint256 i; i < count; ++i) {
            (keys[i], shares[i]) = (_bootstrap[i].key, _bootstrap[i].share);
        }
    }

    /// @inheritdoc IValidators
    function parameters() external view returns (Parameters memory) {
        return _parameters;
    }

    /// @inheritdoc IValidators
    function setOf(uint64 epoch) public view returns (address[] memory, uint64[] memory) {
        return ValidatorSets.unpack(_setOf(epoch).members);
    }

    /// @inheritdoc IValidators
    function setHashOf(uint64 epoch) public view returns (bytes32) {
        return _setOf(epoch).hash;
    }

    /// @inheritdoc IValidators
    function currentEpoch() public view returns (uint64) {
        return uint64(block.number / epochLength);
    }

    /// @inheritdoc IValidators
    function keyDigest(address operator, uint256 deadline) public view returns (bytes32) {
        return _hashTypedDataV4(keccak256(abi.encode(KEY_TYPEHASH, operator, deadline)));
    }

    function _start(address[] memory keys, uint64[] memory powers) private {
        uint256 count = keys.length;
        if (count == 0 || count != powers.length || count > MAX_BOOTSTRAP) revert SetInvalid();
        uint256[] memory members = new uint256[](count);
        uint256 total;
        for (uint256 i; i < count; ++i) {
            members[i] = ValidatorSets.pack(keys[i], powers[i]);
            // Ascending words: in order, and nobody twice with one power; twice with two is refused below.
            bool ordered = i == 0 || members[i - 1] < members[i];
            if (!ordered || powers[i] == 0 || keys[i] == address(0) || _bootstrapPlaces[keys[i]] != 0) {
                revert SetInvalid();
            }
            total += powers[i];
            _bootstrap.push(Bootstrap({key: keys[i], share: powers[i], seen: _epoch32()}));
            _bootstrapPlaces[keys[i]] = i + 1;
        }
        if (total != ValidatorSets.TOTAL) revert SetInvalid();
        _fix(currentEpoch(), members);
    }

    function _useKey(address operator, address key, uint256 deadline, bytes calldata signature) private {
        if (block.timestamp > deadline) revert ConsentExpired(deadline);
        address bound = operatorOf[key];
        if ((bound != address(0) && bound != operator) || isBanned[key]) revert KeyTaken(key);
        (address signer, ECDSA.RecoverError failure,) =
            ECDSA.tryRecoverCalldata(keyDigest(operator, deadline), signature);
        if (failure != ECDSA.RecoverError.NoError || signer != key) revert KeyInvalid();
        operatorOf[key] = operator;
        _removeBootstrap(key);
    }

    /// @return place position plus one
    function _enter(address operator) private returns (uint256 place) {
        if (_candidates.length == MAX_CANDIDATES) _giveWay(operator);
        Candidate memory entry;
        entry.operator = operator;
        // What was served before counts for nothing: work is what comes.
        entry.mark = _scoreOf(operator);
        _candidates.push(entry);
        place = _candidates.length;
        _places[operator] = place;
    }

    function _giveWay(address newcomer) private {
        (address weakest, uint256 least) = (address(0), type(uint256).max);
        for (uint256 i; i < MAX_CANDIDATES; ++i) {
            address operator = _candidates[i].operator;
            uint256 stake = _activeStake(operator);
            if (stake < least) (weakest, least) = (operator, stake);
        }
        if (_activeStake(newcomer) <= least) revert Full();
        _remove(weakest);
    }

    function _remove(address operator) private {
        uint256 place = _places[operator];
        uint256 last = _candidates.length;
        if (place != last) {
            Candidate memory moved = _candidates[last - 1];
            _candidates[place - 1] = moved;
            _places[moved.operator] = place;
        }
        _candidates.pop();
        delete _places[operator];
        emit Left(operator);
    }

    function _removeBootstrap(address key) private {
        uint256 place = _bootstrapPlaces[key];
        if (place == 0) return;
        uint256 last = _bootstrap.length;
        if (place != last) {
            Bootstrap memory moved = _bootstrap[last - 1];
            _bootstrap[place - 1] = moved;
            _bootstrapPlaces[moved.key] = place;
        }
        _bootstrap.pop();
        delete _bootstrapPlaces[key];
    }

    /// @dev What everyone weighs for the epoch after this one. Counts work and jails the absent on the way.
    function _weights(uint64 epoch) private returns (address[] memory keys, uint256[] memory weights) {
        (uint256 count, uint256 bootstrap) = (_candidates.length, _bootstrap.length);
        (keys, weights) = (new address[](count + bootstrap), new uint256[](count + bootstrap));
        uint256[] memory works = new uint256[](count);
        (uint256 staked, uint256 worked) = (0, 0);
        for (uint256 i; i < count; ++i) {
            Candidate storage entry = _candidates[i];
            keys[i] = entry.key;
            works[i] = _countWork(entry);
            if (_isJailed(entry, epoch)) continue;
            weights[i] = _activeStake(entry.operator);
            staked += weights[i];
            worked += weights[i] * works[i];
        }
        for (uint256 i; i < count; ++i) {
            weights[i] *= worked == 0 ? ONE_PPM : _clamp(works[i] * ONE_PPM * staked / worked);
        }
        if (epoch + 1 >= _parameters.sunsetEpoch) bootstrap = 0;
        for (uint256 i; i < bootstrap; ++i) {
            Bootstrap storage entry = _bootstrap[i];
            keys[count + i] = entry.key;
            if (_isAbsent(entry.seen, epoch)) continue;
            weights[count + i] = uint256(_parameters.bootstrapStake) * entry.share / ValidatorSets.TOTAL * ONE_PPM;
        }
    }

    /// @dev Only what exceeds the highest score so far is new work: a reputation that comes back is none.
    function _countWork(Candidate storage entry) private returns (uint256 average) {
        uint128 score = _scoreOf(entry.operator);
        uint128 mark = entry.mark;
        uint256 work = score > mark ? score - mark : 0;
        average = (uint256(entry.workPpm) * (SMOOTHING - 1) + work * ONE_PPM) / SMOOTHING;
        // An average of numbers below 2^84.
        // forge-lint: disable-next-line(unsafe-typecast)
        entry.workPpm = uint128(average);
        if (work != 0) entry.mark = score;
    }

    function _isJailed(Candidate storage entry, uint64 epoch) private returns (bool) {
        if (entry.jailedUntil != 0) return true;
        if (!_isAbsent(entry.seen, epoch)) return false;
        // Epochs fit 32 bits for as long as blocks have numbers that anyone counts.
        // forge-lint: disable-next-line(unsafe-typecast)
        entry.jailedUntil = uint32(epoch) + _parameters.jailEpochs + 1;
        emit Jailed(entry.operator, entry.jailedUntil);
        return true;
    }

    function _fix(uint64 epoch, uint256[] memory members) private {
        (address[] memory keys, uint64[] memory powers) = ValidatorSets.unpack(members);
        bytes32 setHash = ValidatorSets.hash(keys, powers);
        if (setHash == _latest.hash) return;
        _previous = _latest;
        _latest = StoredSet({from: epoch, hash: setHash, members: members});
        emit SetFixed(epoch, setHash, keys, powers);
    }

    function _setParameters(Parameters memory next) private {
        if (
            next.bootstrapStake == 0 || next.bootstrapStake > MAX_BOOTSTRAP_STAKE || next.absentEpochs > MAX_EPOCHS
                || next.jailEpochs > MAX_EPOCHS
        ) revert ParametersOutOfBounds();
        _parameters = next;
        emit ParametersChanged(next);
    }

    function _requireOperatorOrOwner(address operator) private view {
        if (msg.sender != operator && msg.sender != nodeRegistry.ownerOf(operator)) {
            revert NotOperatorOrOwner(operator, msg.sender);
        }
    }

    function _candidate(address operator) private view returns (Candidate storage) {
        uint256 place = _places[operator];
        if (place == 0) revert NotCandidate(operator);
        return _candidates[place - 1];
    }

    function _setOf(uint64 epoch) private view returns (StoredSet storage) {
        if (epoch > currentEpoch() + 1) revert EpochUnknown(epoch);
        if (epoch >= _latest.from) return _latest;
        if (epoch < _previous.from || _previous.members.length == 0) revert EpochUnknown(epoch);
        return _previous;
    }

    function _isAbsent(uint32 seen, uint64 epoch) private view returns (bool) {
        uint32 most = _parameters.absentEpochs;
        return most != 0 && epoch > uint64(seen) + most;
    }

    function _activeStake(address operator) private view returns (uint256) {
        return nodeRegistry.isActive(operator, VALIDATOR) ? IStakes(address(nodeRegistry)).stakeOf(operator) : 0;
    }

    function _scoreOf(address operator) private view returns (uint128) {
        // Served tokens have 64 bits.
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint128(Math.min(scores.scoreOf(operator), type(uint64).max));
    }

    function _epoch32() private view returns (uint32) {
        // forge-lint: disable-next-line(unsafe-typecast)
        return uint32(currentEpoch());
    }

    function _clamp(uint256 ppm) private pure returns (uint256) {
        return Math.max(LEAST_PPM, Math.min(ppm, MOST_PPM));
    }
}

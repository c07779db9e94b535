// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {ICheckpointKeys} from "./interfaces/ICheckpointKeys.sol";
import {ICheckpoints} from "./interfaces/ICheckpoints.sol";
import {Aggregates} from "./libraries/Aggregates.sol";
import {Certificates} from "./libraries/Certificates.sol";
import {Headers} from "./libraries/Headers.sol";

/// @title Checkpoints
/// @dev Holds no money. Its owner, which should be a timelock, can name a block only after a fork or when trust has expired.
contract Checkpoints is ICheckpoints, Ownable2Step {
    using Aggregates for Aggregates.Aggregate;
    using Certificates for Certificates.Certificate;

    struct Latest {
        uint64 height;
        uint64 timestamp;
        uint64 epoch;
        uint32 era;
    }

    uint32 public constant MIN_EPOCH_LENGTH = 4;
    uint64 public constant MAX_TRUST_PERIOD = 90 days;
    /// @dev How far the other chain's clock may run ahead of this one's.
    uint64 public constant MAX_AHEAD = 15 minutes;

    /// @inheritdoc ICheckpoints
    uint256 public immutable chainId;
    /// @inheritdoc ICheckpoints
    uint32 public immutable epochLength;
    /// @inheritdoc ICheckpoints
    uint64 public immutable trustPeriod;
    /// @inheritdoc ICheckpoints
    ICheckpointKeys public immutable keys;

    Latest private _latest;
    mapping(uint32 era => mapping(uint64 height => bytes32)) private _blocks;
    mapping(uint32 era => mapping(uint64 epoch => Trust)) private _trust;

    /// @param genesis header of the block to begin with, in RLP
    constructor(
        uint256 chainId_,
        uint32 epochLength_,
        uint64 trustPeriod_,
        address initialOwner,
        ICheckpointKeys keys_,
        bytes memory genesis
    ) Ownable(initialOwner) {
        if (epochLength_ < MIN_EPOCH_LENGTH || trustPeriod_ == 0 || trustPeriod_ > MAX_TRUST_PERIOD) {
            revert ParametersOutOfBounds();
        }
        chainId = chainId_;
        epochLength = epochLength_;
        trustPeriod = trustPeriod_;
        keys = keys_;
        _anchor(Headers.decode(genesis), epochLength_);
    }

    /// @inheritdoc ICheckpoints
    function submit(bytes calldata header, Certificates.Certificate calldata certificate) external {
        (Headers.Header memory decided, Latest memory last) = _requireNewer(header);
        _accept(decided, last, _requireDecided(decided, certificate, last.era));
    }

    /// @inheritdoc ICheckpoints
    function submitAggregated(bytes calldata header, Aggregates.Aggregate calldata aggregate) external {
        (Headers.Header memory decided, Latest memory last) = _requireNewer(header);
        _accept(decided, last, _requireSigned(decided, aggregate, last.era));
    }

    /// @inheritdoc ICheckpoints
    function reportFork(
        bytes calldata first,
        Certificates.Certificate calldata firstCertificate,
        bytes calldata second,
        Certificates.Certificate calldata secondCertificate
    ) external {
        (Headers.Header memory a, Headers.Header memory b, uint32 current) = _requireFork(first, second);
        _requireDecided(a, firstCertificate, current);
        _requireDecided(b, secondCertificate, current);
        _endEra(a, b, current);
    }

    /// @inheritdoc ICheckpoints
    function reportAggregatedFork(
        bytes calldata first,
        Aggregates.Aggregate calldata firstAggregate,
        bytes calldata second,
        Aggregates.Aggregate calldata secondAggregate
    ) external {
        (Headers.Header memory a, Headers.Header memory b, uint32 current) = _requireFork(first, second);
        _requireSigned(a, firstAggregate, current);
        _requireSigned(b, secondAggregate, current);
        _endEra(a, b, current);
    }

    /// @inheritdoc ICheckpoints
    function reportMixedFork(
        bytes calldata first,
        Certificates.Certificate calldata firstCertificate,
        bytes calldata second,
        Aggregates.Aggregate calldata secondAggregate
    ) external {
        (Headers.Header memory a, Headers.Header memory b, uint32 current) = _requireFork(first, second);
        _requireDecided(a, firstCertificate, current);
        _requireSigned(b, secondAggregate, current);
        _endEra(a, b, current);
    }

    /// @inheritdoc ICheckpoints
    function anchor(bytes calldata header) external onlyOwner {
        Trust memory newest = _trust[_latest.era][_latest.epoch];
        if (newest.setHash != 0 && block.timestamp <= _expiry(newest)) revert StillTrusted();
        _anchor(Headers.decode(header), epochLength);
    }

    /// @inheritdoc ICheckpoints
    function latest() external view returns (uint64 height, uint64 timestamp) {
        return (_latest.height, _latest.timestamp);
    }

    /// @inheritdoc ICheckpoints
    function trustOf(uint64 epoch) external view returns (Trust memory) {
        return _trust[_latest.era][epoch];
    }

    function blockHashOf(uint64 number) external view returns (bytes32) {
        return _blocks[_latest.era][number];
    }

    function era() external view returns (uint32) {
        return _latest.era;
    }

    /// @inheritdoc ICheckpoints
    function checkpointDigest(uint64 height, bytes32 blockHash, bytes32 setHash) external view returns (bytes32) {
        return Aggregates.digest(chainId, height, blockHash, setHash);
    }

    function _requireNewer(bytes calldata header)
        private
        view
        returns (Headers.Header memory decided, Latest memory last)
    {
        (decided, last) = (Headers.decode(header), _latest);
        if (decided.number <= last.height) revert NotNewer(decided.number, last.height);
        if (decided.timestamp > block.timestamp + MAX_AHEAD) revert BlockAhead(decided.timestamp);
    }

    /// @param trusted hash of the set that decided it
    function _accept(Headers.Header memory decided, Latest memory last, bytes32 trusted) private {
        uint64 epoch = decided.number / epochLength;
        if ((decided.number + 1) % epochLength == 0) {
            _trustEpoch(last.era, epoch + 1, decided);
            epoch += 1;
        } else if (decided.extra != trusted) {
            revert NextSetInvalid(decided.number);
        }
        _blocks[last.era][decided.number] = decided.hash;
        _latest = Latest({height: decided.number, timestamp: decided.timestamp, epoch: epoch, era: last.era});
        emit CheckpointAccepted(decided.number, decided.hash, decided.stateRoot, decided.timestamp);
    }

    function _requireFork(bytes calldata first, bytes calldata second)
        private
        view
        returns (Headers.Header memory a, Headers.Header memory b, uint32 current)
    {
        (a, b, current) = (Headers.decode(first), Headers.decode(second), _latest.era);
        if (a.number != b.number || a.hash == b.hash) revert NoFork();
    }

    function _endEra(Headers.Header memory a, Headers.Header memory b, uint32 current) private {
        _latest.era = current + 1;
        emit ForkProven(a.number, a.hash, b.hash, current + 1);
    }

    /// @param length the constructor cannot read immutables
    function _anchor(Headers.Header memory named, uint32 length) private {
        uint32 current = _latest.era;
        uint64 epoch = (named.number + 1) / length;
        _blocks[current][named.number] = named.hash;
        _latest = Latest({height: named.number, timestamp: named.timestamp, epoch: epoch, era: current});
        emit Anchored(named.number, named.hash, current);
        _trustEpoch(current, epoch, named);
    }

    function _trustEpoch(uint32 current, uint64 epoch, Headers.Header memory named) private {
        if (named.extra == bytes32(0)) revert NextSetInvalid(named.number);
        uint64 since = uint64(Math.min(named.timestamp, block.timestamp));
        _trust[current][epoch] = Trust({setHash: named.extra, since: since});
        emit EpochTrusted(epoch, named.extra);
    }

    function _requireDecided(
        Headers.Header memory decided,
        Certificates.Certificate calldata certificate,
        uint32 current
    ) private view returns (bytes32 trusted) {
        trusted = _requireTrusted(decided.number, certificate.setHash(), current);
        certificate.requireDecided(chainId, decided.number, decided.hash);
    }

    function _requireSigned(Headers.Header memory decided, Aggregates.Aggregate calldata aggregate, uint32 current)
        private
        view
        returns (bytes32 trusted)
    {
        trusted = _requireTrusted(decided.number, aggregate.setHash(), current);
        ICheckpointKeys.Signed memory signed = ICheckpointKeys.Signed({
            members: keccak256(abi.encodePacked(aggregate.validators)),
            keyed: aggregate.keyed,
            absent: aggregate.requireQuorum(),
            absentKeys: aggregate.absentKeys,
            key: aggregate.key,
            signature: aggregate.signature
        });
        keys.requireSigned(signed, Aggregates.digest(chainId, decided.number, decided.hash, trusted));
    }

    /// @dev Refuses a set that is not the one trusted with the block's epoch, now.
    function _requireTrusted(uint64 number, bytes32 given, uint32 current) private view returns (bytes32) {
        uint64 epoch = number / epochLength;
        Trust memory trust = _trust[current][epoch];
        if (trust.setHash == 0) revert EpochUntrusted(epoch);
        if (block.timestamp > _expiry(trust)) revert TrustExpired(epoch, _expiry(trust));
        if (given != trust.setHash) revert SetMismatch(given, trust.setHash);
        return given;
    }

    function _expiry(Trust memory trust) private view returns (uint256) {
        return uint256(trust.since) + trustPeriod;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Epochs, beacons, and the guards among whom committees are drawn
/// @notice Time is cut into epochs of equal length. Once an epoch is over, anyone records its beacon from the chain's randomness; what was
/// committed in the epoch is drawn with it. Guards serve with their stake in the node registry (role GUARD): what they
/// do wrong is taken from there, so that one stake answers for all that an operator does, and it leaves with the registry's delay, which is
/// longer than any audit.
/// @dev The list of guards only grows, in the order of enrolment, and a draw looks at those who enrolled before its beacon was known:
/// neither enrolling nor leaving afterwards moves anybody else's place.
interface IGuards {
    /// @notice One enrolment.
    /// @param operator the guard
    /// @param since epoch of enrolment
    /// @param retired whether it was ended; enrolling again makes a new one
    struct Enrolment {
        address operator;
        uint32 since;
        bool retired;
    }

    event Enrolled(address indexed guard, uint32 epoch);
    event Retired(address indexed guard);
    /// @notice From the epoch after this one on, the operator computes on machines of this class.
    event ClassDeclared(address indexed operator, bytes32 class, uint32 fromEpoch);
    event BeaconRecorded(uint32 indexed epoch, bytes32 beacon);

    error GuardInactive(address guard);
    error AlreadyEnrolled(address guard);
    error NotEnrolled(address guard);
    error EpochNotOver(uint32 epoch, uint32 current);
    error BeaconKnown(uint32 epoch);
    error BeaconUnknown(uint32 epoch);
    error EpochLengthOutOfBounds(uint32 length);
    error ZeroAddress();

    /// @notice Enrols the caller, an active guard of the node registry, for draws from this epoch on.
    function enroll() external;

    /// @notice Ends the caller's enrolment. Committees that it was drawn for stay as they are.
    function retire() external;

    /// @notice Declares the class of machine that the caller computes on, from the next epoch on: what was served before is judged by the
    /// class that stood then.
    function declareClass(bytes32 class) external;

    /// @notice Stores `keccak256(abi.encode(prevrandao, epoch))` as the beacon of a past epoch. Anyone, once an epoch, however late.
    /// @dev Whoever records it chooses the block; as anyone may, the first after the end of the epoch decides, and guards watch for it.
    function recordBeacon(uint32 epoch) external;

    /// @notice Draws up to `size` guards without repetition, none of them sharing an account (operator, owner, payout) with another or with
    /// a node in `known`. Of those who enrolled in `epoch` or before and are active now; fewer where there are not so many.
    /// @param seed decides everything
    function draw(bytes32 seed, uint32 epoch, address[] calldata known, uint256 size)
        external
        view
        returns (address[] memory drawn);

    /// @notice The beacon of an epoch. Reverts with `BeaconUnknown` when it is not recorded.
    function knownBeacon(uint32 epoch) external view returns (bytes32);

    /// @notice The running epoch.
    function currentEpoch() external view returns (uint32);

    /// @notice The beacon of an epoch; zero when it is not recorded.
    function beaconOf(uint32 epoch) external view returns (bytes32);

    /// @notice The class that an operator had declared for an epoch.
    function classAt(address operator, uint32 epoch) external view returns (bytes32);

    /// @notice How many enrolments there ever were.
    function enrolmentCount() external view returns (uint256);

    /// @notice The enrolment at a position below `enrolmentCount()`.
    function enrolmentAt(uint256 index) external view returns (Enrolment memory);

    /// @notice Whether the operator is enrolled now.
    function isEnrolled(address operator) external view returns (bool);

    /// @notice Length of an epoch in seconds.
    function epochLength() external view returns (uint32);

    /// @notice When epoch 0 began, in seconds since 1970.
    function genesis() external view returns (uint64);
}

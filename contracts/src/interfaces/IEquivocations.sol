// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Votes} from "../libraries/Votes.sol";

/// @title What a double vote costs
/// @notice Two messages of one kind, height and round that say different things, signed by one key, convict the key by themselves: it is
/// banned from validating with its operator, whose stake is slashed. Once a key.
interface IEquivocations {
    /// @notice What governance sets, in basis points.
    /// @param slashBps of the operator's stake, also what is unbonding
    /// @param burnBps part of what is slashed
    /// @param reporterBps part of what is slashed, for who announced the proof in an earlier block; the rest is the guards' pool's
    struct Parameters {
        uint16 slashBps;
        uint16 burnBps;
        uint16 reporterBps;
    }

    /// @notice A key signed two votes or two proposals where it may sign one.
    /// @param operator zero for a bootstrap validator, which has no stake
    event EquivocationProven(
        address indexed key, address indexed operator, uint64 height, uint32 round, address reporter
    );
    event Slashed(address indexed operator, uint128 slashed, uint128 burnt, uint128 toReporter, uint128 toPool);
    event Withdrawn(address indexed account, uint256 amount);
    event ParametersChanged(Parameters parameters);

    error NotConflicting();
    error KindUnknown(uint8 kind);
    error SignersDiffer(address first, address second);
    error SignatureInvalid();
    error AlreadyProven(address key);
    error NothingToWithdraw(address account);
    error ParametersOutOfBounds();
    error ZeroAddress();

    /// @notice Convicts on two votes.
    /// @param salt of what the sender announced to the court in an earlier block, `keccak256(abi.encode(bytes32(key), sender, salt))`:
    /// without that, nobody is paid
    function proveVotes(
        Votes.Vote calldata a,
        bytes calldata signatureOfA,
        Votes.Vote calldata b,
        bytes calldata signatureOfB,
        bytes32 salt
    ) external;

    /// @notice Convicts on two proposals.
    /// @param salt as in `proveVotes`
    function proveProposals(
        Votes.Proposal calldata a,
        bytes calldata signatureOfA,
        Votes.Proposal calldata b,
        bytes calldata signatureOfB,
        bytes32 salt
    ) external;

    /// @notice Pays a reporter what it was credited. Anyone may ask.
    function withdraw(address account) external returns (uint256 amount);

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice Whether a key was convicted.
    function isProven(address key) external view returns (bool);

    /// @notice What a reporter was credited and has not withdrawn.
    function balanceOf(address account) external view returns (uint256);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}

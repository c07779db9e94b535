// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {SessionId} from "../types/SessionId.sol";
import {IQuality} from "./IQuality.sol";

/// @title What proved useful work earns beyond its fees
/// @notice A miner has the fees that clients paid it through `Sessions` counted, in the epoch in which it asks for that. They
/// weigh by the protocol's share of them, by reputation and by quality. What an epoch has to give, the protocol's share of fees and
/// an emission that halves, is divided by weight, and is never more than a part of the protocol's share of the fees that
/// were counted: who pays itself to earn rewards pays more than it earns. Amounts are wei of COR.
/// @dev Collects what `Sessions` owes it when it is the treasury there. Work counts of miners that have been audited at least once, so that
/// who commits to no receipts earns nothing here; which receipt is in which batch is not looked at, because vouchers do not say.
interface IRewards {
    /// @notice What governance sets.
    /// @param emission most that the pool gives in an epoch, before it is halved
    /// @param halvingEpochs epochs after which the emission is halved, and again
    /// @param capPpm part of the protocol's share of the counted fees that rewards never exceed
    /// @param guardBps part of what is collected for the guards' pool in the court
    struct Parameters {
        uint128 emission;
        uint32 halvingEpochs;
        uint32 capPpm;
        uint16 guardBps;
    }

    /// @notice An epoch in which work was counted.
    /// @param weight of all that was counted
    /// @param paid what it has to give; zero until it is closed
    struct Epoch {
        uint128 weight;
        uint128 paid;
    }

    event Funded(address indexed from, uint256 amount);
    /// @notice Fees arrived; a part went to the guards.
    event Collected(uint256 amount, uint256 toGuards);
    event Counted(address indexed miner, uint32 indexed epoch, uint128 share, uint128 weight);
    event EpochClosed(uint32 indexed epoch, uint128 weight, uint128 paid);
    /// @notice Rewards were paid, or fell back to the pool because the miner has been convicted.
    event Claimed(address indexed miner, address indexed payout, uint256 amount, uint256 epochs);
    event QualityChanged(IQuality quality);
    event ParametersChanged(Parameters parameters);

    error TooMany(uint256 length);
    error NothingToCount(address miner);
    error NothingToClaim(address miner);
    error NotAudited(address miner);
    error ZeroAmount();
    error ZeroAddress();
    error ParametersOutOfBounds();

    /// @notice Counts what the caller redeemed of these sessions since they were counted last, at most `MAX_SESSIONS`.
    /// @return weight what that adds to the caller's weight in the running epoch
    function count(SessionId[] calldata ids) external returns (uint128 weight);

    /// @notice Pays a miner's rewards of up to `most` epochs, at most `MAX_CLAIMS`, to its payout account, the oldest first. Anyone may.
    function claim(address miner, uint256 most) external returns (uint256 amount);

    /// @notice Takes in what `Sessions` owes this contract, and what was sent to it. Anyone may.
    /// @return amount what was new
    function collect() external returns (uint256 amount);

    /// @notice Adds the caller's tokens to the pool that the emission comes from.
    function fund(uint128 amount) external;

    /// @notice Names who judges quality; zero for nobody. Only governance.
    function setQuality(IQuality quality) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice What `claim` would pay a miner in an epoch, and for how many others, at most `MAX_CLAIMS`; fees that are not collected yet
    /// may add to it.
    /// @param current the epoch of the next block, which the newest block does not tell on a chain that seals on demand
    function claimable(address miner, uint32 current) external view returns (uint256 amount, uint256 epochs);

    /// @notice The weight that counting these sessions would add now.
    function countable(address miner, SessionId[] calldata ids) external view returns (uint128 weight);

    /// @notice An epoch; all zero where nothing was counted.
    function epochOf(uint32 epoch) external view returns (Epoch memory);

    /// @notice What a miner's work weighs in an epoch that was not claimed yet.
    function weightOf(address miner, uint32 epoch) external view returns (uint128);

    /// @notice Most that the pool gives in an epoch.
    function emissionIn(uint32 epoch) external view returns (uint128);

    /// @notice What the emission comes from.
    function pool() external view returns (uint256);

    /// @notice Fees that no epoch has given away yet.
    function fees() external view returns (uint256);

    /// @notice What closed epochs owe to miners, and what rounding left.
    function reserved() external view returns (uint256);

    /// @notice Who judges quality; zero for nobody.
    function quality() external view returns (IQuality);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}

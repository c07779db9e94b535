// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title COR: ERC-20 with permit (EIP-2612) and votes (ERC-5805), never more than 1,000,000,000 tokens of 18 decimals
/// @notice Voting power is checkpointed by block time (`CLOCK_MODE` is `mode=timestamp`), so that one governor reads it
/// the same way on every layer.
interface ICortensorToken {
    /// @notice Creates `amount` wei of COR for `account`.
    /// @dev Only the owner. Reverts with `ERC20ExceededCap` when the supply would pass the cap.
    function mint(address account, uint256 amount) external;

    /// @notice Destroys `amount` wei of the caller's COR. Burnt supply may be minted again under the cap.
    function burn(uint256 amount) external;
}

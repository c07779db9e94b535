// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

/// @title Who decides the blocks of this chain, and with what power
/// @notice Epochs are counted in blocks. In each, anybody fixes the next epoch's set once (`advance`); where nobody does, the set stays.
/// Powers follow stake and proved work: `stake × clamp(EMA(work), ¼, 3)`, work being relative to the stake-weighted mean. One validator
/// has at most a fifth (an equal share where there are fewer than five), less than a third moves from one set to the next, and the total
/// is always 1,000,000,000. Nothing that anyone registers or stakes can make a set empty, larger than 200, or of another total.
interface IValidators {
    /// @notice What governance sets.
    /// @param sunsetEpoch from this epoch on the bootstrap validators weigh nothing
    /// @param bootstrapStake what they weigh together until then, in wei of stake
    /// @param absentEpochs who gave no sign of life for more epochs than these is jailed; 0 for never
    /// @param jailEpochs epochs before a jailed validator may come back
    struct Parameters {
        uint64 sunsetEpoch;
        uint128 bootstrapStake;
        uint32 absentEpochs;
        uint32 jailEpochs;
    }

    /// @notice Someone who wants to validate.
    /// @param operator its node in the registry
    /// @param seen the last epoch in which it gave a sign of life
    /// @param jailedUntil the first epoch in which it may come back; 0 when it is not jailed
    /// @param key what it signs votes with
    /// @param workPpm moving average of the tokens it was proved to have served an epoch, times 1,000,000
    /// @param mark highest score that was counted
    struct Candidate {
        address operator;
        uint32 seen;
        uint32 jailedUntil;
        address key;
        uint128 workPpm;
        uint128 mark;
    }

    /// @notice The set of an epoch was fixed. Not emitted where it stays as it was.
    event SetFixed(uint64 indexed epoch, bytes32 setHash, address[] validators, uint64[] powers);
    event Joined(address indexed operator, address indexed key);
    event Left(address indexed operator);
    event Jailed(address indexed operator, uint64 until);
    event Unjailed(address indexed operator);
    /// @notice A key voted twice; neither it nor its operator validates again.
    event Banned(address indexed operator, address indexed key);
    event EquivocationsChanged(address equivocations);
    event ParametersChanged(Parameters parameters);

    error NotOperatorOrOwner(address operator, address caller);
    error NotEquivocations(address caller);
    error NotValidator(address operator);
    error NotCandidate(address account);
    error KeyTaken(address key);
    error KeyInvalid();
    error ConsentExpired(uint256 deadline);
    error OperatorBanned(address operator);
    error Full();
    error NotJailed(address operator);
    error JailedUntil(uint64 epoch);
    error AlreadyAdvanced(uint64 epoch);
    error EpochEnds();
    error EpochUnknown(uint64 epoch);
    error SetInvalid();
    error EpochLengthOutOfBounds(uint32 blocks);
    error ParametersOutOfBounds();
    error ZeroAddress();

    /// @notice Offers an active validator node, with the key that it will sign votes with; again, to change the key. By the operator or its
    /// owner. When all places are taken, the one with the least stake has to give way to a larger one.
    /// @param signature of `key` over EIP-712 `Key(address operator,uint256 deadline)`, domain {"Cortensor Validators", "1", chain, this}
    function join(address operator, address key, uint256 deadline, bytes calldata signature) external;

    /// @notice Withdraws a candidate; its power goes with the next sets. By the operator or its owner.
    function resign(address operator) external;

    /// @notice Lets a jailed candidate back in. By the operator or its owner.
    function unjail(address operator) external;

    /// @notice A sign of life, by a candidate's operator or key, or a bootstrap key.
    function heartbeat() external;

    /// @notice Fixes the next epoch's set. Anyone; once an epoch, and not in its last block, so that a block's successor has the same set
    /// before and after the block.
    function advance() external;

    /// @notice Bans a key that voted twice, with its operator. Only the contract that proves it.
    /// @return operator whose key it is; zero for a bootstrap validator or an unknown key
    function ban(address key) external returns (address operator);

    /// @notice Names the contract that proves double votes. Only governance.
    function setEquivocations(address next) external;

    /// @notice Changes the parameters. Only governance; bounded by constants.
    function setParameters(Parameters calldata next) external;

    /// @notice The set that decides this block.
    function currentSet() external view returns (address[] memory validators, uint64[] memory powers);

    /// @notice The set of an epoch: of this one, the next (final once fixed, or in the epoch's last block), or the last changed one.
    function setOf(uint64 epoch) external view returns (address[] memory validators, uint64[] memory powers);

    /// @notice The set that decides the block of this height.
    function setAt(uint64 height) external view returns (address[] memory validators, uint64[] memory powers);

    /// @notice `keccak256(abi.encode(validators, powers))` of the set that decides the next block: what this block's header carries.
    function nextSetHash() external view returns (bytes32);

    /// @notice The hash of the set of an epoch; as `setOf`.
    function setHashOf(uint64 epoch) external view returns (bytes32);

    /// @notice One member of an epoch's set; as `setOf`.
    function memberOf(uint64 epoch, uint256 index) external view returns (address key, uint64 power);

    /// @notice The epoch of this block.
    function currentEpoch() external view returns (uint64);

    /// @notice Blocks in an epoch; block 0 begins epoch 0.
    function epochLength() external view returns (uint32);

    /// @notice Whose key this is or was; zero for none.
    function operatorOf(address key) external view returns (address);

    /// @notice Whether an operator or a key is banned.
    function isBanned(address account) external view returns (bool);

    /// @notice An operator's candidacy; reverts when there is none.
    function candidate(address operator) external view returns (Candidate memory);

    /// @notice How many candidates there are.
    function candidateCount() external view returns (uint256);

    /// @notice The candidate at a position, in no particular order.
    function candidateAt(uint256 index) external view returns (Candidate memory);

    /// @notice Bootstrap keys that still take part, with their shares of the bootstrap stake in billionths.
    function bootstrapSet() external view returns (address[] memory keys, uint64[] memory shares);

    /// @notice What `key` signs to join.
    function keyDigest(address operator, uint256 deadline) external view returns (bytes32);

    /// @notice The parameters.
    function parameters() external view returns (Parameters memory);
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IEquivocations} from "../src/interfaces/IEquivocations.sol";
import {IValidators} from "../src/interfaces/IValidators.sol";
import {Votes} from "../src/libraries/Votes.sol";
import {ConsensusWorld} from "./support/ConsensusWorld.sol";
import {vm} from "./support/Vm.sol";

contract EquivocationsTest is ConsensusWorld {
    bytes32 private constant HASH_A = keccak256("a");
    bytes32 private constant HASH_B = keccak256("b");
    address private key;
    address private operator;

    function setUp() public {
        deployConsensusWorld();
        key = addValidator(0, VALIDATOR_STAKE);
        operator = vm.addr(OPERATOR_KEYS);
    }

    function test_twoVotesOfOneRoundBanAndSlash() public {
        uint256 supply = token.totalSupply();
        court.announce(keccak256(abi.encode(bytes32(uint256(uint160(key))), address(this), SALT)));
        vm.roll(block.number + 1);
        prove(vote(HASH_A), vote(HASH_B), SALT);
        vm.assertEq(registry.stakeOf(operator), VALIDATOR_STAKE / 2, "half of the stake");
        vm.assertEq(supply - token.totalSupply(), VALIDATOR_STAKE / 2 * 4 / 10, "of which burnt");
        vm.assertEq(equivocations.balanceOf(address(this)), VALIDATOR_STAKE / 2 / 10, "of which the reporter's");
        vm.assertEq(court.pool(), VALIDATOR_STAKE / 2 / 2, "the rest");
        vm.assertTrue(validators.isBanned(key) && validators.isBanned(operator), "banned");
        vm.assertEq(validators.candidateCount(), 0, "no candidate");
        uint256 before = token.balanceOf(address(this));
        equivocations.withdraw(address(this));
        vm.assertEq(token.balanceOf(address(this)) - before, VALIDATOR_STAKE / 20, "paid");
        vm.assertEq(token.balanceOf(address(equivocations)), 0, "nothing stays");
        vm.expectRevert(abi.encodeWithSelector(IEquivocations.NothingToWithdraw.selector, address(this)));
        equivocations.withdraw(address(this));

        vm.expectRevert(abi.encodeWithSelector(IEquivocations.AlreadyProven.selector, key));
        prove(vote(HASH_A), vote(HASH_B), SALT);
        bytes memory signature = signJoin(operator, CONSENSUS_KEYS + 5, block.timestamp);
        vm.prank(operator);
        vm.expectRevert(abi.encodeWithSelector(IValidators.OperatorBanned.selector, operator));
        validators.join(operator, vm.addr(CONSENSUS_KEYS + 5), block.timestamp, signature);
    }

    function test_aCopiedProofEarnsNothing() public {
        court.announce(keccak256(abi.encode(bytes32(uint256(uint160(key))), address(this), SALT)));
        prove(vote(HASH_A), vote(bytes32(0)), SALT);
        vm.assertEq(equivocations.balanceOf(address(this)), 0, "announced in the same block");
        vm.assertEq(court.pool(), VALIDATOR_STAKE / 2 * 6 / 10, "the pool's");
    }

    function test_aKeyThatWasGivenUpStillAnswers() public {
        joinWith(operator, CONSENSUS_KEYS + 1);
        vm.startPrank(operator);
        validators.resign(operator);
        registry.requestUnstake(operator, VALIDATOR_STAKE);
        vm.stopPrank();
        prove(vote(HASH_A), vote(HASH_B), SALT);
        vm.assertEq(registry.slashable(operator), VALIDATOR_STAKE / 2, "what is unbonding too");
    }

    function test_twoProposalsOfOneRound() public {
        Votes.Proposal memory a = Votes.Proposal(7, 0, -1, HASH_A);
        Votes.Proposal memory b = Votes.Proposal(7, 0, 0, HASH_A);
        (bytes memory signatureOfA, bytes memory signatureOfB) = (sign(a), sign(b));
        vm.expectRevert(IEquivocations.NotConflicting.selector);
        equivocations.proveProposals(a, signatureOfA, a, signatureOfA, SALT);
        equivocations.proveProposals(a, signatureOfA, b, signatureOfB, SALT);
        vm.assertTrue(equivocations.isProven(key), "another valid round");
    }

    function test_aBootstrapValidatorLosesItsPlace() public {
        uint256 bootstrap = BOOTSTRAP_KEYS;
        equivocations.proveVotes(
            vote(HASH_A),
            signVote(bootstrap, vote(HASH_A), block.chainid),
            vote(HASH_B),
            signVote(bootstrap, vote(HASH_B), block.chainid),
            SALT
        );
        advanceEpochs(4);
        vm.assertEq(powerOf(vm.addr(bootstrap)), 0, "gone");
    }

    function test_whatDoesNotConflictConvictsNobody() public {
        Votes.Vote memory a = vote(HASH_A);
        Votes.Vote memory b = vote(HASH_B);
        b.round = 1;
        expectNoConflict(a, b);
        b = vote(HASH_B);
        b.height += 1;
        expectNoConflict(a, b);
        b = vote(HASH_B);
        b.kind = 1;
        expectNoConflict(a, b);
        expectNoConflict(a, a);
        (a.kind, b.kind) = (3, 3);
        vm.expectRevert(abi.encodeWithSelector(IEquivocations.KindUnknown.selector, uint8(3)));
        equivocations.proveVotes(a, "", b, "", SALT);
    }

    function test_signaturesOfTwoKeysOrAnotherChainConvictNobody() public {
        Votes.Vote memory a = vote(HASH_A);
        Votes.Vote memory b = vote(HASH_B);
        bytes memory signature = signVote(CONSENSUS_KEYS, a, block.chainid);
        bytes memory others = signVote(CONSENSUS_KEYS + 1, b, block.chainid);
        vm.expectRevert(abi.encodeWithSelector(IEquivocations.SignersDiffer.selector, key, vm.addr(CONSENSUS_KEYS + 1)));
        equivocations.proveVotes(a, signature, b, others, SALT);
        others = signVote(CONSENSUS_KEYS, b, block.chainid + 1);
        vm.expectPartialRevert(IEquivocations.SignersDiffer.selector);
        equivocations.proveVotes(a, signature, b, others, SALT);
        vm.expectRevert(IEquivocations.SignatureInvalid.selector);
        equivocations.proveVotes(a, new bytes(65), b, others, SALT);
    }

    function test_parametersAreBounded() public {
        vm.startPrank(GOVERNANCE);
        IEquivocations.Parameters[3] memory wrong = [
            IEquivocations.Parameters(499, 0, 0),
            IEquivocations.Parameters(10_001, 0, 0),
            IEquivocations.Parameters(5000, 9000, 1001)
        ];
        for (uint256 i; i < wrong.length; ++i) {
            vm.expectRevert(IEquivocations.ParametersOutOfBounds.selector);
            equivocations.setParameters(wrong[i]);
        }
        equivocations.setParameters(IEquivocations.Parameters(10_000, 9000, 1000));
        vm.assertEq(equivocations.parameters().slashBps, 10_000, "set");
        vm.stopPrank();
    }

    /// @dev Whatever else differs: one round, one kind, two hashes convict, and nothing else does.
    function testFuzz_onlyDoubleVotesConvict(Votes.Vote memory a, Votes.Vote memory b, bool sameRound) public {
        (a.kind, b.kind) = (a.kind % 2 + 1, b.kind % 2 + 1);
        if (sameRound) (b.kind, b.height, b.round) = (a.kind, a.height, a.round);
        bool doubled = a.kind == b.kind && a.height == b.height && a.round == b.round && a.blockHash != b.blockHash;
        bytes memory signatureOfA = signVote(CONSENSUS_KEYS, a, block.chainid);
        bytes memory signatureOfB = signVote(CONSENSUS_KEYS, b, block.chainid);
        if (!doubled) vm.expectRevert(IEquivocations.NotConflicting.selector);
        equivocations.proveVotes(a, signatureOfA, b, signatureOfB, SALT);
        vm.assertTrue(equivocations.isProven(key) == doubled, "convicted");
    }

    function vote(bytes32 hash) private pure returns (Votes.Vote memory) {
        return Votes.Vote({kind: 2, height: 7, round: 0, blockHash: hash});
    }

    function signVote(uint256 privateKey, Votes.Vote memory a, uint256 chain) private pure returns (bytes memory) {
        return signDigest(privateKey, voteDigest(a, chain));
    }

    function sign(Votes.Proposal memory a) private view returns (bytes memory) {
        return signDigest(CONSENSUS_KEYS, proposalDigest(a, block.chainid));
    }

    function prove(Votes.Vote memory a, Votes.Vote memory b, bytes32 salt) private {
        equivocations.proveVotes(
            a, signVote(CONSENSUS_KEYS, a, block.chainid), b, signVote(CONSENSUS_KEYS, b, block.chainid), salt
        );
    }

    function expectNoConflict(Votes.Vote memory a, Votes.Vote memory b) private {
        vm.expectRevert(IEquivocations.NotConflicting.selector);
        equivocations.proveVotes(a, "", b, "", SALT);
    }
}

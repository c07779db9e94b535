// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {Court} from "../src/Court.sol";
import {ICourt} from "../src/interfaces/ICourt.sol";
import {ISessions} from "../src/interfaces/ISessions.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev This contract decides, in place of audits.
contract CourtTest is AuditWorld {
    bytes32 private constant ITEM = keccak256("item");
    address private guard;

    function setUp() public {
        deployAuditWorld(1);
        guard = vm.addr(GUARD_KEYS);
        vm.prank(GOVERNANCE);
        court.setAuditor(address(this));
        fundFor(address(this), 100e18);
    }

    function test_onlyTheAuditorDecides() public {
        vm.startPrank(GOVERNANCE);
        bytes memory refusal = abi.encodeWithSelector(ICourt.NotAuditor.selector, GOVERNANCE);
        vm.expectRevert(refusal);
        court.reward(ITEM, guard, ICourt.Service.Agreed);
        vm.expectRevert(refusal);
        court.takeBond(ITEM, ICourt.BondKind.Appeal, challenger);
        vm.expectRevert(refusal);
        court.returnBond(ITEM, ICourt.BondKind.Appeal);
        vm.expectRevert(refusal);
        court.loseBond(ITEM, ICourt.BondKind.Appeal, miner);
        vm.expectRevert(refusal);
        court.punish(ITEM, miner, SessionId.wrap(0));
        vm.expectRevert(refusal);
        court.punishMissing(ITEM, miner, challenger);
        vm.stopPrank();
    }

    function test_onlyGovernanceGoverns() public {
        bytes4 refusal = bytes4(keccak256("OwnableUnauthorizedAccount(address)"));
        vm.expectPartialRevert(refusal);
        court.setAuditor(address(this));
        vm.expectPartialRevert(refusal);
        court.setTreasury(address(this));
        vm.expectPartialRevert(refusal);
        court.setTrapSetter(address(this), true);
        vm.expectPartialRevert(refusal);
        court.setParameters(courtParameters());
        vm.startPrank(GOVERNANCE);
        vm.expectRevert(ICourt.ZeroAddress.selector);
        court.setAuditor(address(0));
        vm.expectRevert(ICourt.ZeroAddress.selector);
        court.setTreasury(address(0));
        vm.expectRevert(ICourt.ZeroAddress.selector);
        court.setTrapSetter(address(0), true);
        court.setTreasury(PUBLISHER);
        vm.assertEq(court.treasury(), PUBLISHER, "treasury");
        vm.stopPrank();
        vm.expectRevert(ICourt.ZeroAddress.selector);
        new Court(token, registry, ISessions(address(0)), scores, GOVERNANCE, TREASURY, courtParameters());
    }

    function test_guardsArePaidFromThePoolAsFarAsItReaches() public {
        court.fund(uint128(PAY) * 3 / 2);
        court.reward(ITEM, guard, ICourt.Service.Agreed);
        vm.assertEq(court.balanceOf(guard), PAY, "whole");
        court.reward(ITEM, guard, ICourt.Service.Agreed);
        vm.assertEq(court.balanceOf(guard), uint256(PAY) * 3 / 2, "the rest");
        court.reward(ITEM, guard, ICourt.Service.Agreed);
        vm.assertEq(court.pool(), 0, "nothing, and no revert");
        uint256 before = token.balanceOf(guard);
        court.withdraw(guard);
        vm.assertEq(token.balanceOf(guard), before + uint256(PAY) * 3 / 2, "withdrawn");
        vm.expectRevert(ICourt.ZeroAmount.selector);
        court.fund(0);
    }

    function test_penaltiesFillThePool() public {
        court.reward(ITEM, guard, ICourt.Service.Failed);
        vm.assertEq(court.pool(), PENALTY, "penalty");
        court.reward(ITEM, guard, ICourt.Service.FailedTrap);
        vm.assertEq(court.pool(), PENALTY + TRAP_PENALTY, "trap");
        vm.assertEq(registry.slashable(guard), GUARD_STAKE - PENALTY - TRAP_PENALTY, "stake");
    }

    function test_bondsStandOnceAndEndOnce() public {
        court.takeBond(ITEM, ICourt.BondKind.Challenge, challenger);
        vm.expectRevert(abi.encodeWithSelector(ICourt.BondStanding.selector, ITEM, ICourt.BondKind.Challenge));
        court.takeBond(ITEM, ICourt.BondKind.Challenge, challenger);
        court.takeBond(ITEM, ICourt.BondKind.Appeal, challenger);
        vm.assertEq(court.bonds(), CHALLENGE_BOND + APPEAL_BOND, "both");
        court.returnBond(ITEM, ICourt.BondKind.Challenge);
        court.returnBond(ITEM, ICourt.BondKind.Challenge);
        court.loseBond(ITEM, ICourt.BondKind.Challenge, miner);
        vm.assertEq(court.balanceOf(challenger), CHALLENGE_BOND, "once");
        court.loseBond(ITEM, ICourt.BondKind.Appeal, miner);
        vm.assertEq(court.pool(), APPEAL_BOND, "an appeal's is the guards' alone");
        vm.assertEq(court.bonds(), 0, "none");
    }

    function testFuzz_slashesAreSplitToTheWei(uint16 burn, uint16 client, uint16 pool, uint128 stake, bool reported)
        public
    {
        ICourt.Parameters memory p = courtParameters();
        p.burnBps = uint16(bound(burn, 0, 10_000));
        p.clientBps = uint16(bound(client, 0, 10_000 - p.burnBps));
        p.poolBps = uint16(bound(pool, 0, 10_000 - p.burnBps - p.clientBps));
        p.reporterBps = 10_000 - p.burnBps - p.clientBps - p.poolBps;
        vm.prank(GOVERNANCE);
        court.setParameters(p);
        uint128 added = uint128(bound(stake, 1, 1_000_000e18));
        fund(address(this), 0);
        token.approve(address(registry), added);
        registry.addStake(miner, added);
        if (reported) court.takeBond(ITEM, ICourt.BondKind.Challenge, challenger);
        uint256 supply = token.totalSupply();
        uint256 before = registry.slashable(miner);
        court.punish(ITEM, miner, SessionId.wrap(keccak256("unknown")));
        uint256 slashed = before - registry.slashable(miner);
        vm.assertEq(slashed, before * 4000 / 10_000, "the parameter's part");
        uint256 split =
            supply - token.totalSupply() + court.balanceOf(TREASURY) + court.balanceOf(challenger) + court.pool();
        vm.assertEq(split, slashed, "all of it");
        vm.assertEq(
            token.balanceOf(address(court)),
            court.pool() + court.bonds() + court.balanceOf(TREASURY) + court.balanceOf(challenger),
            "held"
        );
        if (!reported) vm.assertEq(court.balanceOf(challenger), 0, "nobody reported");
    }

    function testFuzz_theMissingPenaltyIsSplitToTheWei(uint96 penalty) public {
        ICourt.Parameters memory p = courtParameters();
        p.missingPenalty = uint96(bound(penalty, 0, MINER_STAKE));
        vm.prank(GOVERNANCE);
        court.setParameters(p);
        (uint256 supply, uint256 before) = (token.totalSupply(), registry.slashable(miner));
        court.punishMissing(ITEM, miner, challenger);
        uint256 slashed = before - registry.slashable(miner);
        vm.assertEq(slashed, p.missingPenalty, "penalty");
        vm.assertEq(supply - token.totalSupply(), slashed * 4 / 10, "burnt");
        vm.assertEq(court.balanceOf(challenger), slashed / 10, "reporter");
        vm.assertEq(court.pool() + court.balanceOf(challenger), token.balanceOf(address(court)), "held");
    }

    function test_trapsAreCommittedToOnce() public {
        bytes32[] memory commitments = new bytes32[](1);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NotTrapSetter.selector, address(this)));
        court.plant(commitments);
        vm.prank(GOVERNANCE);
        court.setTrapSetter(address(this), true);
        court.plant(commitments);
        vm.assertEq(court.plantedAt(bytes32(0)), block.timestamp, "time");
        vm.expectRevert(abi.encodeWithSelector(ICourt.TrapKnown.selector, bytes32(0)));
        court.plant(commitments);
        vm.expectRevert(abi.encodeWithSelector(ICourt.TooMany.selector, 257));
        court.plant(new bytes32[](257));
    }

    function testFuzz_theGuaranteeIsWhatACheatLoses(uint128 fee) public view {
        fee = uint128(bound(fee, 0, 1_000_000e18));
        ICourt.Guarantee memory bought = court.guarantee(miner, fee);
        vm.assertEq(bought.ratePpm, 1_000_000, "rate");
        vm.assertEq(bought.atStake, MINER_STAKE * 4 / 10, "stake");
        vm.assertEq(bought.expectedLoss, (uint256(fee) + bought.atStake) * 95 * 90 / 10_000, "loss");
    }

    function test_parametersAreBounded() public {
        vm.startPrank(GOVERNANCE);
        for (uint256 i; i < 10; ++i) {
            ICourt.Parameters memory p = courtParameters();
            if (i == 0) p.burnBps += 1;
            if (i == 1) p.reporterBps -= 1;
            if (i == 2) p.contradictionSlashBps = 10_001;
            if (i == 3) p.committeeSlashBps = 10_001;
            if (i == 4) p.challengedBps = 10_001;
            if (i == 5) p.trapPenalty = 50 * p.guardPay - 1;
            if (i == 6) p.traceTolerance = 1025;
            if (i == 7) p.detectionPpm = 1_000_001;
            if (i == 8) p.collusionPpm = 1_000_001;
            if (i == 9) p.missingPenalty = 1000e18 + 1;
            vm.expectRevert(ICourt.ParametersOutOfBounds.selector);
            court.setParameters(p);
        }
        vm.stopPrank();
    }
}

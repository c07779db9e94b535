// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {IAudits} from "../../src/interfaces/IAudits.sol";
import {ICourt} from "../../src/interfaces/ICourt.sol";
import {IReceipts} from "../../src/interfaces/IReceipts.sol";
import {IScores} from "../../src/interfaces/IScores.sol";
import {MINER} from "../../src/types/Roles.sol";
import {AuditWorld} from "./AuditWorld.sol";
import {bound, vm} from "./Vm.sol";

/// @dev Drives miners, guards, challengers and a trap setter at random and keeps its own books. An action that is not due returns early.
contract AuditHandler is AuditWorld {
    uint256 private constant GUARDS = 6;
    uint256 private constant MAX_AUDITS = 40;

    struct Tracked {
        IReceipts.Receipt receipt;
        bytes32 item;
        bool settledBefore;
    }

    Tracked[] private _tracked;
    mapping(bytes32 seat => IAudits.Finding) private _findings;
    mapping(address guard => uint256) public withdrawn;
    mapping(bytes32 what => uint256) public calls;
    uint256 public supply;
    uint256 public burnt;
    bool public settledTwice;
    /// @dev What failures to show receipts weigh.
    int256 public fromMissing;

    constructor() {
        deployAuditWorld(GUARDS);
        registerProfile();
        fundFor(address(this), 10_000e18);
        token.approve(address(court), type(uint256).max);
        vm.startPrank(GOVERNANCE);
        court.setTrapSetter(address(this), true);
        IScores.Parameters memory parameters = scoreParameters();
        parameters.suspiciousPpm = 1_000_000;
        parameters.floorPpm = 1_000_000;
        scores.setParameters(parameters);
        vm.stopPrank();
        supply = token.totalSupply();
    }

    // --- actions ---

    function open(bool planted, bool bad) external {
        if (_tracked.length == MAX_AUDITS || !registry.isActive(miner, MINER)) return;
        IReceipts.Receipt memory receipt = receiptOf(_tracked.length);
        bytes32 item = itemOf(receipt);
        if (planted) {
            bytes32[] memory commitments = new bytes32[](1);
            commitments[0] = keccak256(abi.encode(address(this), item, bad, SALT));
            court.plant(commitments);
            ++calls["plant"];
        }
        IAudits.Inclusion memory inclusion = commitOne(receipt);
        audits.openAudit(receipt, inclusion, bytes32(0));
        track(receipt, item);
        ++calls[audits.audit(item).status == IAudits.Status.Void ? bytes32("noGuards") : bytes32("open")];
    }

    function challenge() external {
        if (_tracked.length == MAX_AUDITS) return;
        IReceipts.Receipt memory receipt = receiptOf(1000 + _tracked.length);
        bytes memory signature = signDigest(MINER_KEY, itemOf(receipt));
        vm.prank(challenger);
        audits.challenge(receipt, signature);
        track(receipt, itemOf(receipt));
        ++calls["challenge"];
    }

    /// @dev The guards of a round answer; which of them, and what, the seed decides. `kind` 0 agrees, 1 accuses, 2 is each for itself.
    function answer(uint256 seed, uint256 kind) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        IAudits.Audit memory state = audits.audit(t.item);
        if (state.status != IAudits.Status.Gathering || block.timestamp > state.commitUntil) return;
        address[] memory drawn = audits.assigned(t.item, state.round);
        for (uint256 i; i < drawn.length; ++i) {
            uint256 r = uint256(keccak256(abi.encode(seed, i)));
            if (r % 8 == 0) continue;
            IAudits.Finding memory finding = findingFor(kind % 4 == 2 ? r >> 8 : kind % 4);
            bytes32 commitment = commitmentOf(drawn[i], t.item, state.round, finding);
            vm.prank(drawn[i]);
            try audits.commitFinding(t.item, commitment) {
                _findings[keccak256(abi.encode(t.item, drawn[i]))] = finding;
                ++calls["commit"];
            } catch {
                ++calls["commitRefused"];
            }
        }
    }

    function reveal(uint256 seed) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        IAudits.Audit memory state = audits.audit(t.item);
        if (state.status != IAudits.Status.Gathering || state.committed == 0) return;
        if (block.timestamp <= state.commitUntil) vm.warp(uint256(state.commitUntil) + 1);
        address[] memory drawn = audits.assigned(t.item, state.round);
        for (uint256 i; i < drawn.length; ++i) {
            vm.prank(drawn[i]);
            try audits.revealFinding(t.receipt, _findings[keccak256(abi.encode(t.item, drawn[i]))], SALT) {
                ++calls["reveal"];
            } catch {
                ++calls["revealRefused"];
            }
        }
    }

    function draw(uint256 seed) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        IAudits.Audit memory state = audits.audit(t.item);
        if (state.status != IAudits.Status.Waiting) return;
        if (guards.beaconOf(state.epoch) == bytes32(0)) {
            if (state.epoch >= guards.currentEpoch()) vm.warp(block.timestamp + EPOCH);
            vm.prevrandao(keccak256(abi.encode(seed)));
            guards.recordBeacon(state.epoch);
        }
        audits.draw(t.item);
        ++calls[audits.audit(t.item).exhausted ? bytes32("exhausted") : bytes32("draw")];
    }

    function settle(uint256 seed, bool wait) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        IAudits.Audit memory state = audits.audit(t.item);
        if (wait && block.timestamp <= state.until) vm.warp(uint256(state.until) + 1);
        uint256 jobs = scores.score(miner).jobs;
        uint256 before = token.totalSupply();
        try audits.settle(t.receipt) {
            ++calls["settle"];
        } catch {
            ++calls["settleRefused"];
            return;
        }
        burnt += before - token.totalSupply();
        if (before != token.totalSupply()) ++calls["slashed"];
        if (scores.score(miner).jobs == jobs) return;
        if (t.settledBefore) settledTwice = true;
        t.settledBefore = true;
        ++calls["settled"];
    }

    function appeal(uint256 seed) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        vm.prank(challenger);
        try audits.appeal(t.item) {
            ++calls["appeal"];
        } catch {
            ++calls["appealRefused"];
        }
    }

    function spring(uint256 seed, bool bad) external {
        if (_tracked.length == 0) return;
        Tracked storage t = _tracked[seed % _tracked.length];
        try audits.springTrap(t.item, bad, SALT) {
            ++calls["spring"];
        } catch {
            ++calls["springRefused"];
        }
    }

    function fundPool(uint128 amount) external {
        court.fund(uint128(bound(amount, 1, 5e18)));
        ++calls["fund"];
    }

    function withdraw(uint256 seed) external {
        address account = accounts()[seed % accounts().length];
        uint256 owed = court.balanceOf(account);
        if (owed == 0) return;
        court.withdraw(account);
        withdrawn[account] += owed;
        ++calls["withdraw"];
    }

    function pass(uint256 time) external {
        vm.warp(block.timestamp + bound(time, 1, 3 hours));
    }

    /// @dev A batch that nobody opens, reported when that is due.
    function hide(uint256 seed) external {
        if (!registry.isActive(miner, MINER)) return;
        IAudits.Inclusion memory inclusion = commitOne(receiptOf(100_000 + calls["hide"]));
        vm.warp(block.timestamp + 1 days + 1 + seed % 40 days);
        int256 before = scores.score(miner).sampling;
        uint256 total = token.totalSupply();
        vm.prank(challenger);
        audits.reportMissing(miner, inclusion.root, 0);
        burnt += total - token.totalSupply();
        fromMissing += scores.score(miner).sampling - before;
        ++calls["hide"];
        try audits.reportMissing(miner, inclusion.root, 0) {
            settledTwice = true;
        } catch {}
    }

    function forget() external {
        int256 before = scores.score(miner).sampling;
        scores.forget(miner);
        fromMissing += scores.score(miner).sampling - before;
    }

    // --- books ---

    function accounts() public view returns (address[] memory all) {
        all = new address[](GUARDS + 3);
        for (uint256 i; i < GUARDS; ++i) {
            all[i] = vm.addr(GUARD_KEYS + i);
        }
        (all[GUARDS], all[GUARDS + 1], all[GUARDS + 2]) = (challenger, TREASURY, MINER_PAYOUT);
    }

    function held() external view returns (uint256 balance, uint256 owed) {
        return (token.balanceOf(address(court)), owedByCourt(accounts()));
    }

    /// @dev What the settled audits say together, and what the scores say.
    function evidence() external view returns (int256 fromAudits, int256 inScores, uint256 settled, uint256 jobs) {
        for (uint256 i; i < _tracked.length; ++i) {
            IAudits.Audit memory state = audits.audit(_tracked[i].item);
            if (state.status != IAudits.Status.Settled) continue;
            fromAudits += state.evidence.sampling;
            ++settled;
        }
        fromAudits += fromMissing;
        vm.assertTrue(
            fromMissing == int256(uint256(scores.failuresOf(miner).count)) * scores.parameters().missingEvidence,
            "what failures weigh"
        );
        return (fromAudits, scores.score(miner).sampling, settled, scores.score(miner).jobs);
    }

    /// @dev Whether some guard was ever credited more than its pay for each finding that counted.
    function paidBeyondServices() external view returns (bool) {
        for (uint256 g; g < GUARDS; ++g) {
            address guard = vm.addr(GUARD_KEYS + g);
            if (court.balanceOf(guard) + withdrawn[guard] > PAY * services(guard)) return true;
        }
        return false;
    }

    /// @dev Whether the bonds that the court holds are those of audits that run.
    function bondsOfRunningAudits() external view returns (uint256 expected) {
        for (uint256 i; i < _tracked.length; ++i) {
            IAudits.Status status = audits.audit(_tracked[i].item).status;
            bool runs = status == IAudits.Status.Waiting || status == IAudits.Status.Gathering
                || status == IAudits.Status.Decided;
            (, uint96 asked) = court.bondOf(_tracked[i].item, ICourt.BondKind.Challenge);
            (, uint96 appealed) = court.bondOf(_tracked[i].item, ICourt.BondKind.Appeal);
            if (runs) expected += uint256(asked) + appealed;
        }
    }

    function courtBonds() external view returns (uint256) {
        return court.bonds();
    }

    function totalSupply() external view returns (uint256) {
        return token.totalSupply();
    }

    function services(address guard) private view returns (uint256 count) {
        for (uint256 i; i < _tracked.length; ++i) {
            IAudits.Status status = audits.audit(_tracked[i].item).status;
            if (status != IAudits.Status.Settled && status != IAudits.Status.Planted) continue;
            IAudits.Seat[] memory all = audits.seats(_tracked[i].item);
            for (uint256 k; k < all.length; ++k) {
                if (all[k].guard == guard && uint256(all[k].state) >= uint256(IAudits.SeatState.Revealed)) ++count;
            }
        }
    }

    function findingFor(uint256 kind) private pure returns (IAudits.Finding memory) {
        if (kind % 4 == 0) return findingIn(0, 60);
        if (kind % 4 == 1) return hardFinding();
        return findingIn(kind % 3, uint16((kind >> 8) % 100));
    }

    function track(IReceipts.Receipt memory receipt, bytes32 item) private {
        Tracked storage t = _tracked.push();
        t.receipt = receipt;
        t.item = item;
    }
}

// SPDX-License-Identifier: Apache-2.0
pragma solidity ^0.8.28;

import {ICourt} from "../src/interfaces/ICourt.sol";
import {IReceipts} from "../src/interfaces/IReceipts.sol";
import {IScores} from "../src/interfaces/IScores.sol";
import {Contradictions} from "../src/libraries/Contradictions.sol";
import {SeededSampling} from "../src/libraries/SeededSampling.sol";
import {Traces} from "../src/libraries/Traces.sol";
import {SessionId} from "../src/types/SessionId.sol";
import {AuditWorld} from "./support/AuditWorld.sol";
import {bound, vm} from "./support/Vm.sol";

/// @dev Gives the libraries calldata.
contract ContradictionsHarness {
    function contradicts(
        Traces.Record memory record,
        IReceipts.Sampling calldata sampling,
        bytes32 seed,
        uint32 step,
        uint16 tolerance
    ) external pure returns (bool) {
        return Contradictions.contradicts(record, sampling, seed, step, tolerance);
    }

    function read(bytes calldata tokens, bytes calldata evidence, uint256 position)
        external
        pure
        returns (Traces.Record memory)
    {
        return Traces.read(tokens, evidence, position);
    }

    function isCanonical(Traces.Record memory record) external pure returns (bool) {
        return Traces.isCanonical(record);
    }
}

/// @dev The rule, the bytes, and everything that a proof is refused for.
contract ContradictionsTest is AuditWorld {
    bytes5 private constant UNUSED = hex"ffffff8000";
    bytes32 private constant SEED = keccak256("seed");
    /// @dev A token that wins by its noise against 5 at step 0 of the seed, by 4.6 nats.
    ContradictionsHarness private harness;

    function setUp() public {
        deployAuditWorld(0);
        harness = new ContradictionsHarness();
    }

    // --- proofs that hold ---

    function test_aTokenThatLosesAtTemperatureZeroSlashes() public {
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        address reporter = address(0x4E9);
        announce(reporter, opening);
        vm.prank(reporter);
        court.proveContradiction(opening, SALT);
        // Half of the stake, of which 40, 30, 20 and 10 %.
        vm.assertEq(registry.slashable(miner), MINER_STAKE / 2, "slashed");
        vm.assertEq(court.pool(), MINER_STAKE / 2 / 5, "pool");
        vm.assertEq(court.balanceOf(reporter), MINER_STAKE / 2 / 10, "reporter");
        vm.assertEq(court.balanceOf(TREASURY), MINER_STAKE / 2 * 3 / 10, "nobody knows the session");
        vm.assertEq(token.totalSupply(), 500_000_000e18 - MINER_STAKE / 2 * 4 / 10, "burnt");
        vm.assertEq(uint256(scores.score(miner).state), uint256(IScores.State.Slashed), "state");
        vm.assertEq(scores.reputationOf(miner), 0, "reputation");
        vm.assertTrue(court.isProven(itemOf(opening.receipt)), "proven");
    }

    /// @dev A proof that was read in the mempool was not announced by whoever copies it.
    function test_whoCopiesAProofEarnsNothing() public {
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        (address reporter, address copier) = (address(0x4E9), address(0xC0B1));
        announce(reporter, opening);
        bytes32 late = keccak256(abi.encode(itemOf(opening.receipt), copier, SALT));
        vm.startPrank(copier);
        court.announce(late);
        court.proveContradiction(opening, SALT);
        vm.stopPrank();
        vm.assertEq(court.balanceOf(copier), 0, "announced in the same block");
        vm.assertEq(court.pool(), MINER_STAKE / 2 * 3 / 10, "the reporter's part");
        // Announcing again does not make an announcement younger.
        uint256 block_ = court.announcedIn(late);
        vm.roll(block.number + 5);
        court.announce(late);
        vm.assertEq(court.announcedIn(late), block_, "once");
    }

    function test_theHarmedClientIsTheSessionsOwner() public {
        SessionId id = openSession();
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        opening.receipt.session = id;
        sign(opening);
        court.proveContradiction(opening, SALT);
        vm.assertEq(court.balanceOf(client), MINER_STAKE / 2 * 3 / 10, "client");
        vm.assertEq(court.balanceOf(TREASURY), 0, "treasury");
        court.withdraw(client);
        vm.expectRevert(abi.encodeWithSelector(ICourt.NothingToWithdraw.selector, client));
        court.withdraw(client);
    }

    function test_onceAReceipt() public {
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        court.proveContradiction(opening, SALT);
        vm.expectRevert(abi.encodeWithSelector(ICourt.AlreadyProven.selector, itemOf(opening.receipt)));
        court.proveContradiction(opening, SALT);
    }

    function test_theNoiseOfTheSeedDecidesAboveTemperatureZero() public {
        // With equal log-probabilities the noise alone decides: exactly one order of each pair contradicts.
        uint256 proven = 0;
        for (uint32 id = 100; id < 110; ++id) {
            int64 difference = noise(id) - noise(5);
            if (difference > -1 << 28 && difference < 1 << 28) continue;
            bool loses = difference < 0;
            IReceipts.Opening memory opening = opened(recordOf(id, -500, 5, -500), 1_000_000);
            opening.receipt.task = bytes32(uint256(id));
            sign(opening);
            if (!loses) vm.expectRevert(ICourt.NoContradiction.selector);
            else ++proven;
            court.proveContradiction(opening, SALT);
        }
        vm.assertTrue(proven > 0 && proven < 10, "both were seen");
    }

    function test_anyWindowAndPositionCanBeProven() public {
        // 70 records in three windows; the fault in the last but one record.
        bytes[] memory records = new bytes[](70);
        for (uint256 i; i < 70; ++i) {
            records[i] = recordOf(7, -1, 5, -3000);
        }
        records[68] = recordOf(7, -3000, 5, -1);
        for (uint32 window; window < 3; ++window) {
            IReceipts.Opening memory opening = openedAt(records, 0, window, 4);
            if (window != 2) vm.expectRevert(ICourt.NoContradiction.selector);
            court.proveContradiction(opening, SALT);
        }
    }

    function test_theEndOfTheSequenceIsARecordOfItsOwn() public {
        bytes[] memory records = new bytes[](33);
        for (uint256 i; i < 33; ++i) {
            records[i] = recordOf(7, -1, 5, -3000);
        }
        records[32] = recordOf(2, -3000, 5, -1);
        IReceipts.Opening memory opening = openedAt(records, 0, 1, 0);
        opening.receipt.outputTokens = 32;
        sign(opening);
        vm.expectRevert(abi.encodeWithSelector(Traces.WindowOutOfRange.selector, 1, 1));
        court.proveContradiction(opening, SALT);
        opening.receipt.finish = 0;
        sign(opening);
        court.proveContradiction(opening, SALT);
    }

    function test_recordsWithoutCanonicalFormSlash() public {
        bytes8 none = bytes8(0);
        bytes[9] memory bad = [
            // A positive log-probability, of the token or an alternative.
            recordOf(7, 1, 5, -100),
            recordOf(7, -1, 5, 1),
            // The chosen token as its own alternative, one alternative twice, alternatives out of order.
            recordOf(7, -1, 7, -1),
            rawRecord(7, -1, alternative(5, -1), alternative(5, -2), UNUSED, none),
            rawRecord(7, -1, alternative(5, -2), alternative(6, -1), UNUSED, none),
            // An alternative after an unused place, an unused place with a value.
            rawRecord(7, -1, UNUSED, alternative(5, -1), UNUSED, none),
            rawRecord(7, -1, alternative(5, -1), UNUSED, hex"ffffff7fff", none),
            // A sketch with a mantissa of -64, and one that could have a smaller exponent.
            rawRecord(7, -1, UNUSED, UNUSED, UNUSED, hex"8080000000000000"),
            rawRecord(7, -1, UNUSED, UNUSED, UNUSED, hex"8002000000000000")
        ];
        for (uint256 i; i < bad.length; ++i) {
            IReceipts.Opening memory opening = opened(bad[i], 0);
            // Also where the rule itself could not judge.
            opening.sampling.repeat = 1_100_000;
            opening.receipt.task = bytes32(i);
            sign(opening);
            court.proveContradiction(opening, SALT);
        }
    }

    function test_leavesOfAWrongLengthSlash() public {
        bytes memory record = recordOf(7, -1, 5, -100);
        for (uint256 i; i < 4; ++i) {
            IReceipts.Opening memory opening = opened(record, 0);
            if (i == 0) opening.tokens = bytes.concat(opening.tokens, hex"00");
            if (i == 1) opening.tokens = hex"";
            if (i == 2) opening.evidence = bytes.concat(opening.evidence, opening.evidence);
            if (i == 3) opening.evidence = hex"01";
            opening.receipt.traceRoot = pairOf(opening);
            opening.receipt.task = bytes32(i);
            sign(opening);
            court.proveContradiction(opening, SALT);
        }
    }

    // --- proofs that are refused ---

    function test_aFalseProofIsRefusedAndItsSenderHasPaid() public {
        IReceipts.Opening memory opening = opened(recordOf(7, -100, 5, -2000), 0);
        uint256 before = gasleft();
        (bool done, bytes memory answer) =
            address(court).call(abi.encodeCall(ICourt.proveContradiction, (opening, SALT)));
        vm.assertFalse(done, "refused");
        vm.assertEq(answer, abi.encodeWithSelector(ICourt.NoContradiction.selector), "by name");
        vm.assertLt(30_000, before - gasleft(), "the gas is gone");
        vm.assertEq(registry.slashable(miner), MINER_STAKE, "untouched");
        vm.assertEq(uint256(scores.score(miner).state), 0, "good");
    }

    function test_whatRoundingExplainsIsNoContradiction() public {
        for (int16 lead = 3; lead <= 5; ++lead) {
            IReceipts.Opening memory opening = opened(recordOf(7, -100, 5, lead - 100), 0);
            if (lead <= 4) vm.expectRevert(ICourt.NoContradiction.selector);
            court.proveContradiction(opening, SALT);
        }
    }

    function test_whatTruncationMayHaveRemovedIsNoContradiction() public {
        // A rival that is 1/1024 nat less probable and far luckier.
        (uint32 chosen, uint32 rival) = unluckyAndLucky();
        for (uint256 i; i < 4; ++i) {
            IReceipts.Opening memory opening = opened(recordOf(chosen, -499, rival, -500), 1_000_000);
            if (i == 1) opening.sampling.topP = 999_999;
            if (i == 2) opening.sampling.topK = 1;
            if (i == 3) opening.sampling.minP = 999_999;
            opening.receipt.task = bytes32(i);
            sign(opening);
            if (i != 0) vm.expectRevert(ICourt.NoContradiction.selector);
            court.proveContradiction(opening, SALT);
        }
        // Where it is more probable than the chosen token by more than rounding, no truncation can have removed it.
        IReceipts.Opening memory stays = opened(recordOf(chosen, -505, rival, -500), 1_000_000);
        (stays.sampling.topP, stays.sampling.topK, stays.sampling.minP) = (1, 1, 999_999);
        sign(stays);
        court.proveContradiction(stays, SALT);
    }

    function test_nothingIsSaidAboutNoToken() public {
        IReceipts.Opening memory opening = opened(recordOf(0xFFFFFF, -2000, 5, -100), 0);
        vm.expectRevert(ICourt.NoContradiction.selector);
        court.proveContradiction(opening, SALT);
    }

    function test_everyOtherRefusalHasItsName() public {
        bytes memory bad = recordOf(7, -2000, 5, -100);
        IReceipts.Opening memory opening = opened(bad, 0);
        opening.signature = signDigest(CLIENT_KEY, itemOf(opening.receipt));
        refused(opening, ICourt.SignatureInvalid.selector);
        opening.signature = hex"00";
        refused(opening, ICourt.SignatureInvalid.selector);

        opening = opened(bad, 0);
        opening.receipt.tier = 2;
        opening.signature = signDigest(MINER_KEY, itemOf(opening.receipt));
        refused(opening, ICourt.TierNotJudged.selector);

        opening = opened(bad, 0);
        opening.header.seed = bytes32(uint256(1));
        refused(opening, ICourt.HeaderMismatch.selector);
        opening = opened(bad, 0);
        opening.sampling.topK = 1;
        refused(opening, ICourt.SamplingMismatch.selector);

        for (uint256 i; i < 4; ++i) {
            opening = opened(bad, 0);
            if (i == 0) opening.sampling.presence = 1;
            if (i == 1) opening.sampling.frequency = -1;
            if (i == 2) opening.sampling.repeat = 1_000_001;
            if (i == 3) opening.sampling.bias = bytes32(uint256(1));
            sign(opening);
            refused(opening, ICourt.SamplingNotJudged.selector);
        }

        opening = opened(bad, 0);
        opening.window = 1;
        refused(opening, Traces.WindowOutOfRange.selector);
        opening = opened(bad, 0);
        opening.position = 1;
        refused(opening, Traces.PositionOutOfRange.selector);
        opening = opened(bad, 0);
        opening.path = new bytes32[](1);
        refused(opening, Traces.PathInvalid.selector);
        opening = opened(bad, 0);
        opening.tokens[33] = 0x09;
        refused(opening, Traces.PathInvalid.selector);

        opening = opened(bad, 0);
        opening.evidence = bytes.concat(SALT);
        opening.receipt.traceRoot = pairOf(opening);
        sign(opening);
        refused(opening, Traces.EvidenceAbsent.selector);

        bytes[] memory records = new bytes[](2);
        (records[0], records[1]) = (bad, bad);
        opening = openedAt(records, 0, 0, 1);
        opening.receipt.firstToken = type(uint32).max;
        sign(opening);
        refused(opening, Traces.StepOutOfRange.selector);
    }

    /// @dev Whatever the miner did not sign is refused by a name of ours: never a panic, never without a reason.
    function testFuzz_mangledProofsAreRefusedByName(uint256 what, uint256 value, bytes calldata content) public {
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        what = what % 9;
        if (what == 0) opening.window = uint32(bound(value, 1, type(uint32).max));
        if (what == 1) opening.position = uint32(bound(value, 1, type(uint32).max));
        if (what == 2) opening.tokens = bytes.concat(content, hex"01");
        if (what == 3) opening.evidence = bytes.concat(content, hex"01");
        if (what == 4) opening.path = new bytes32[](bound(value, 1, 40));
        if (what == 5) opening.signature = content;
        if (what == 6) opening.receipt.outputTokens = uint32(bound(value, 0, type(uint32).max));
        if (what == 7) opening.header.deadline = uint64(bound(value, 1, type(uint64).max));
        if (what == 8) opening.sampling.minP = uint32(bound(value, 1, type(uint32).max));
        vm.assume(what != 6 || opening.receipt.outputTokens != 1);
        (bool done, bytes memory answer) =
            address(court).call(abi.encodeCall(ICourt.proveContradiction, (opening, SALT)));
        vm.assertFalse(done, "refused");
        vm.assertTrue(answer.length >= 4 && bytes4(answer) != bytes4(0x4e487b71), "by name");
    }

    /// @dev Leaves of any content under the miner's own signature: judged or refused, never a panic.
    function testFuzz_whateverAMinerCommitsToIsJudged(bytes calldata tokens, bytes calldata evidence, uint32 count)
        public
    {
        IReceipts.Opening memory opening = opened(recordOf(7, -2000, 5, -100), 0);
        (opening.tokens, opening.evidence) = (tokens, evidence);
        opening.receipt.outputTokens = uint32(bound(count, 0, 40));
        opening.receipt.traceRoot = pairOf(opening);
        sign(opening);
        (bool done, bytes memory answer) =
            address(court).call(abi.encodeCall(ICourt.proveContradiction, (opening, SALT)));
        vm.assertTrue(done || bytes4(answer) != bytes4(0x4e487b71), "no panic");
    }

    // --- the rule against the Rust side's vectors, and against a second writing of it ---

    function test_everyVectorOfContradictions() public view {
        string[] memory lines = vm.split(vm.readFile("../crates/proof/tests/vectors/contradictions.csv"), "\n");
        uint256 count = 0;
        for (uint256 i = 1; i < lines.length && bytes(lines[i]).length > 0; ++i) {
            string[] memory columns = vm.split(lines[i], ",");
            IReceipts.Sampling memory sampling;
            sampling.temperature = uint32(vm.parseUint(columns[2]));
            sampling.topK = uint32(vm.parseUint(columns[3]));
            sampling.topP = uint32(vm.parseUint(columns[4]));
            sampling.minP = uint32(vm.parseUint(columns[5]));
            sampling.repeat = 1_000_000;
            bytes memory raw = vm.parseBytes(string.concat("0x", columns[6]));
            Traces.Record memory record =
                harness.read(bytes.concat(SALT, bytes5(raw)), bytes.concat(SALT, bytes28(tail(raw))), 0);
            vm.assertTrue(harness.isCanonical(record), lines[i]);
            bytes32 seed = bytes32(vm.parseBytes(string.concat("0x", columns[0])));
            bool found = harness.contradicts(record, sampling, seed, uint32(vm.parseUint(columns[1])), 4);
            vm.assertTrue(found == (bytes(columns[7]).length != 0), lines[i]);
            ++count;
        }
        vm.assertEq(count, 1000, "vectors");
    }

    function testFuzz_theRuleIsTheReferences(bytes32 entropy, uint32 step) public view {
        Traces.Record memory record = randomRecord(entropy);
        IReceipts.Sampling memory sampling = randomSampling(uint256(keccak256(abi.encode(entropy, "sampling"))));
        uint16 tolerance = uint16(uint256(entropy) % 8);
        vm.assertTrue(
            harness.contradicts(record, sampling, SEED, step, tolerance)
                == expected(record, sampling, step, int256(uint256(tolerance))),
            "verdict"
        );
    }

    function test_theReferenceSeesBothVerdicts() public pure {
        uint256 found = 0;
        for (uint256 i; i < 200; ++i) {
            bytes32 entropy = keccak256(abi.encode(i));
            IReceipts.Sampling memory sampling = randomSampling(uint256(keccak256(abi.encode(entropy, "sampling"))));
            if (expected(randomRecord(entropy), sampling, 3, 4)) ++found;
        }
        vm.assertTrue(found > 20 && found < 180, "both verdicts");
    }

    function testFuzz_bytesAreReadAsWritten(uint32 id, int16 logProbability, bytes32 rest, uint8 position) public view {
        position = position % 32;
        bytes memory tokens = bytes.concat(SALT);
        bytes memory evidence = bytes.concat(SALT);
        for (uint256 i; i < 32; ++i) {
            bool here = i == position;
            tokens = bytes.concat(tokens, here ? alternative(id, logProbability) : bytes5(0));
            evidence = bytes.concat(evidence, here ? bytes28(rest) : bytes28(0));
        }
        Traces.Record memory record = harness.read(tokens, evidence, position);
        vm.assertEq(record.chosen.id, id & 0xffffff, "id");
        vm.assertEq(int256(record.chosen.logProbability), logProbability, "log-probability");
        for (uint256 k; k < 4; ++k) {
            uint256 bits = uint256(rest) >> (256 - 40 * (k + 1));
            vm.assertEq(record.alternatives[k].id, (bits >> 16) & 0xffffff, "alternative");
            vm.assertEq(int256(record.alternatives[k].logProbability), int16(uint16(bits)), "its log-probability");
        }
        vm.assertEq(record.sketch, uint64(uint256(rest) >> 32), "sketch");
    }

    /// @dev A sketch is canonical when encoding what it decodes to gives it back.
    function testFuzz_canonicalSketches(uint8 exponent, int8[8] memory mantissas, bool large) public view {
        Traces.Record memory record;
        record.chosen.id = 1;
        for (uint256 k; k < 4; ++k) {
            record.alternatives[k] = Traces.Token(0xFFFFFF, type(int16).min);
        }
        uint256 bits = exponent % 4;
        int256 largest = 0;
        for (uint256 k; k < 8; ++k) {
            int256 mantissa = int256(mantissas[k]) % (large ? int256(65) : int256(50));
            if (mantissa == 64) mantissa = 0;
            bits = bits << 7 | (uint256(mantissa) & 0x7f);
            int256 magnitude = mantissa < 0 ? -mantissa : mantissa;
            if (magnitude > largest) largest = magnitude;
        }
        record.sketch = uint64(bits);
        bool fits = largest <= 63 && largest > 0 && (exponent % 4 == 1 || largest >= 56) && exponent % 4 != 0;
        bool none = exponent % 4 == 0 && largest == 0;
        vm.assertTrue(harness.isCanonical(record) == (fits || none), "canonical");
    }

    /// @dev Of all candidates one by one, whether it takes part and whether it wins; rational numbers compared by products.
    function expected(Traces.Record memory record, IReceipts.Sampling memory sampling, uint32 step, int256 tolerance)
        private
        pure
        returns (bool)
    {
        if (record.chosen.id == 0xFFFFFF) return false;
        for (uint256 k; k < 4; ++k) {
            Traces.Token memory a = record.alternatives[k];
            if (a.id == 0xFFFFFF || a.logProbability == -32_768) continue;
            int256 lead = int256(a.logProbability) - record.chosen.logProbability - tolerance;
            if (sampling.temperature == 0) {
                if (lead > 0) return true;
                continue;
            }
            if (lead <= 0 && !takesPart(record, k, sampling, tolerance)) continue;
            if (wins(lead, sampling.temperature, step, a.id, record.chosen.id)) return true;
        }
        return false;
    }

    function wins(int256 lead, uint32 temperature, uint32 step, uint32 rival, uint32 chosen)
        private
        pure
        returns (bool)
    {
        bytes32 key = keccak256(abi.encodePacked(SEED, step));
        int256 ga = SeededSampling.gumbel(SeededSampling.bits(key, rival));
        int256 gc = SeededSampling.gumbel(SeededSampling.bits(key, chosen));
        return lead * 4_194_304 * 1e6 / int256(uint256(temperature)) > gc - ga;
    }

    function takesPart(Traces.Record memory record, uint256 k, IReceipts.Sampling memory sampling, int256 tolerance)
        private
        pure
        returns (bool)
    {
        if (sampling.topP != 1e6 || (sampling.topK != 0 && sampling.topK < k + 2)) return false;
        if (sampling.minP == 0) return true;
        int256 best = record.alternatives[0].logProbability;
        if (record.chosen.logProbability > best) best = record.chosen.logProbability;
        int256 behind = best - record.alternatives[k].logProbability + tolerance;
        int256 logMinP = SeededSampling.ln(1e6, 0) - SeededSampling.ln(sampling.minP, 0);
        return behind * 1e6 / int256(uint256(sampling.temperature)) * 2 ** 54 <= logMinP;
    }

    // --- making records ---

    function randomRecord(bytes32 entropy) private pure returns (Traces.Record memory record) {
        uint256 r = uint256(entropy);
        int256 previous = -int256(r % 1500);
        record.chosen = Traces.Token(uint32(r >> 16) % 64, int16(previous - int256((r >> 24) % 1000)));
        uint256 used = (r >> 40) % 5;
        for (uint256 k; k < 4; ++k) {
            if (k >= used) {
                record.alternatives[k] = Traces.Token(0xFFFFFF, type(int16).min);
                continue;
            }
            previous -= int256((r >> (48 + 10 * k)) % 700);
            record.alternatives[k] = Traces.Token(uint32(64 + 64 * k + (r >> (96 + 8 * k)) % 64), int16(previous));
        }
    }

    function randomSampling(uint256 r) private pure returns (IReceipts.Sampling memory sampling) {
        sampling.temperature = r % 4 == 0 ? 0 : uint32(50_000 + (r >> 8) % 2_000_000);
        sampling.topK = (r >> 40) % 2 == 0 ? 0 : uint32((r >> 48) % 6);
        sampling.topP = (r >> 56) % 4 == 0 ? 900_000 : 1_000_000;
        sampling.minP = (r >> 64) % 2 == 0 ? 0 : uint32(1 + (r >> 72) % 1_000_000);
        sampling.repeat = 1_000_000;
    }

    function recordOf(uint32 id, int16 chosen, uint32 rival, int16 logProbability) private pure returns (bytes memory) {
        return rawRecord(id, chosen, alternative(rival, logProbability), UNUSED, UNUSED, bytes8(0));
    }

    function rawRecord(uint32 id, int16 chosen, bytes5 first, bytes5 second, bytes5 third, bytes8 sketch)
        private
        pure
        returns (bytes memory)
    {
        return bytes.concat(alternative(id, chosen), first, second, third, UNUSED, sketch);
    }

    function alternative(uint32 id, int16 logProbability) private pure returns (bytes5) {
        return bytes5(uint40(id & 0xffffff) << 16 | uint16(logProbability));
    }

    function noise(uint32 id) private pure returns (int64) {
        return SeededSampling.gumbel(SeededSampling.bits(SeededSampling.stepKey(SEED, 0), id));
    }

    /// @dev Two tokens whose noise at step 0 is at least two nats apart.
    function unluckyAndLucky() private pure returns (uint32 unlucky, uint32 lucky) {
        unlucky = 1;
        while (noise(unlucky) > 0) ++unlucky;
        lucky = 1;
        while (noise(lucky) < 2 << 32) ++lucky;
    }

    function opened(bytes memory record, uint32 temperature) private view returns (IReceipts.Opening memory) {
        bytes[] memory records = new bytes[](1);
        records[0] = record;
        return openedAt(records, temperature, 0, 0);
    }

    /// @dev The records as a signed trace, one of them opened. It ended for length, so that each record is an output token.
    function openedAt(bytes[] memory records, uint32 temperature, uint32 window, uint32 position)
        private
        view
        returns (IReceipts.Opening memory opening)
    {
        opening.sampling.temperature = temperature;
        opening.sampling.topP = 1_000_000;
        opening.sampling.repeat = 1_000_000;
        opening.header.seed = SEED;
        opening.receipt = receiptOf(1);
        opening.receipt.finish = 1;
        opening.receipt.outputTokens = uint32(records.length);
        (opening.window, opening.position) = (window, position);
        bytes32[] memory leaves = new bytes32[]((records.length + 31) / 32 * 2);
        for (uint256 i; i < leaves.length; i += 2) {
            (bytes memory tokens, bytes memory evidence) = windowOf(records, i / 2);
            if (i / 2 == window) (opening.tokens, opening.evidence) = (tokens, evidence);
            (leaves[i], leaves[i + 1]) = (leafOf(tokens), leafOf(evidence));
        }
        opening.receipt.traceRoot = treeRoot(leaves);
        bytes32[] memory path = treePath(leaves, 2 * window);
        opening.path = new bytes32[](path.length - 1);
        for (uint256 i = 1; i < path.length; ++i) {
            opening.path[i - 1] = path[i];
        }
        sign(opening);
    }

    function windowOf(bytes[] memory records, uint256 window)
        private
        pure
        returns (bytes memory tokens, bytes memory evidence)
    {
        (tokens, evidence) = (bytes.concat(SALT), bytes.concat(SALT));
        for (uint256 i = 32 * window; i < records.length && i < 32 * window + 32; ++i) {
            (bytes5 token, bytes28 rest) = (bytes5(records[i]), bytes28(tail(records[i])));
            (tokens, evidence) = (bytes.concat(tokens, token), bytes.concat(evidence, rest));
        }
    }

    function tail(bytes memory record) private pure returns (bytes32 rest) {
        assembly ("memory-safe") {
            rest := mload(add(record, 37))
        }
    }

    function pairOf(IReceipts.Opening memory opening) private pure returns (bytes32) {
        return keccak256(bytes.concat(hex"01", leafOf(opening.tokens), leafOf(opening.evidence)));
    }

    /// @dev Ties sampling, header and receipt to each other again and has the miner sign.
    function sign(IReceipts.Opening memory opening) private view {
        opening.header.sampling = keccak256(abi.encode(opening.sampling));
        opening.receipt.header = headerDigest(opening.header);
        opening.signature = signDigest(MINER_KEY, itemOf(opening.receipt));
    }

    function announce(address reporter, IReceipts.Opening memory opening) private {
        bytes32 item = itemOf(opening.receipt);
        vm.prank(reporter);
        court.announce(keccak256(abi.encode(item, reporter, SALT)));
        vm.roll(block.number + 1);
    }

    function refused(IReceipts.Opening memory opening, bytes4 selector) private {
        vm.expectPartialRevert(selector);
        court.proveContradiction(opening, SALT);
    }
}
